"""Operations of product credits: each that was done has its deduction and its event, at the rate of its instant."""

from nozle_server.audit.model import Check

# The id of the meter event of an operation `u`.
_TRANSACTION = "'txn_' || replace(u.id::text, '-', '')"

CHECKS = (
    Check(
        "operation_has_its_entry",
        "a use that was allowed has taken exactly what it cost, of its customer's account, for its entity",
        """
        select u.org_id, jsonb_build_object('operation_id', u.id) as ids,
            concat_ws(' ', u.id, 'deduct', -u.credit_amount, u.customer_id, u.credit_system, u.entity_id) as expected,
            concat_ws(' ', e.id, e.type, e.amount, a.customer_id, a.credit_system, e.entity_id) as found
        from usage_operations u
        left join ledger_entries e on e.org_id = u.org_id and e.id = u.entry_id
        left join credit_accounts a on a.org_id = e.org_id and a.id = e.account_id
        where $org(u) and u.status = 'succeeded'
            and (e.id, e.type, e.amount, a.customer_id, a.credit_system, e.entity_id) is distinct from
                (u.id, 'deduct', -u.credit_amount, u.customer_id, u.credit_system, u.entity_id)""",
    ),
    Check(
        "operation_has_its_event",
        "a use that was allowed is metered once, as what it was, and as paid",
        f"""
        select u.org_id, jsonb_build_object('operation_id', u.id) as ids,
            concat_ws(' ', u.metric_id, u.metric_amount, u.occurred_at, 'paid') as expected,
            concat_ws(' ', e.metric_id, e.quantity, e.occurred_at,
                case when e.status = 'unmatched' or e.reason = 'paid_by_credits' then 'paid' end) as found
        from usage_operations u
        left join event_ids i on i.org_id = u.org_id and i.transaction_id = {_TRANSACTION}
        left join events e on e.org_id = i.org_id and e.occurred_at = i.occurred_at and e.id = i.event_id
        where $org(u) and u.status = 'succeeded'
            and ((e.metric_id, e.quantity, e.occurred_at) is distinct from (u.metric_id, u.metric_amount, u.occurred_at)
                or (e.status = 'unmatched' or e.reason = 'paid_by_credits') is not true)""",
    ),
    Check(
        "paid_event_has_its_operation",
        "an event whose usage was paid by credits is that of a use that took them",
        f"""
        select e.org_id, jsonb_build_object('transaction_id', e.transaction_id) as ids, 'an operation' as expected,
            'none' as found
        from events e left join usage_operations u on u.org_id = e.org_id and u.status = 'succeeded'
            and {_TRANSACTION} = e.transaction_id
        where $org(e) and e.reason = 'paid_by_credits' and u.id is null""",
    ),
    Check(
        "denial_has_done_nothing",
        "what was denied has no entry and no event",
        f"""
        select u.org_id, jsonb_build_object('operation_id', u.id) as ids, 'no entry, no event' as expected,
            coalesce('entry ' || e.id, 'no entry') || coalesce(', event ' || i.event_id, ', no event') as found
        from usage_operations u
        left join ledger_entries e on e.org_id = u.org_id and e.id = u.id
        left join event_ids i on i.org_id = u.org_id and i.transaction_id = {_TRANSACTION}
        where $org(u) and u.status = 'denied' and (e.id is not null or i.event_id is not null)""",
    ),
    Check(
        "operation_costs_what_its_rate_says",
        "a use costs its units x credit_amount / metric_amount, to the nearest 12th decimal, at the rate that held then",
        """
        select u.org_id, jsonb_build_object('operation_id', u.id, 'rate_id', u.rate_id) as ids,
            u.metric_amount || ' x ' || r.credit_amount || ' / ' || r.metric_amount || ' from ' || r.effective_from
                || coalesce(' to ' || r.effective_to, '') as expected,
            concat_ws(' ', u.credit_amount, 'at', u.rate_credit_amount, '/', u.rate_metric_amount, 'on', u.occurred_at)
                as found
        from usage_operations u left join credit_rates r on r.org_id = u.org_id and r.id = u.rate_id
        where $org(u) and u.rate_id is not null and (
            (u.rate_credit_amount, u.rate_metric_amount, u.metric_id) is distinct from
                (r.credit_amount, r.metric_amount, r.metric_id)
            or u.occurred_at < r.effective_from
            or abs(u.credit_amount * r.metric_amount - u.metric_amount * r.credit_amount) * 2000000000000
                > r.metric_amount)""",
    ),
)

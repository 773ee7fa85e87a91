"""Invoices: each is the sum of its parts, and bills the usage there was."""

from nozle_server.audit.model import Check

# Lines that bill a closed period's usage in full: what is charged at the event, corrections, minimums and what another
# invoice charges again are left out.
_IN_ARREARS = """l.kind = 'charge' and not l.pay_in_advance and l.adjusts_invoice_id is null and l.true_up_of is null
                and i.invoice_type <> 'progressive_billing' and i.status <> 'draft'"""

# A charge bills the usage that credits were taken for, or leaves it out, all of it.
_UNPAID = "e.reason is distinct from 'paid_by_credits'"

_EVENTS = f"""
            select w.org_id, w.subscription_id, w.metric_id, w.period_start, w.period_end, count(e.id) as n,
                coalesce(sum(e.quantity), 0) as total, count(e.id) filter (where {_UNPAID}) as unpaid,
                coalesce(sum(e.quantity) filter (where {_UNPAID}), 0) as unpaid_total
            from (
                select distinct org_id, subscription_id, metric_id, period_start, period_end from billed
            ) w left join events e on e.org_id = w.org_id and e.subscription_id = w.subscription_id
                and e.metric_id = w.metric_id and e.status = 'counted'
                and e.occurred_at >= w.period_start and e.occurred_at < w.period_end
            group by 1, 2, 3, 4, 5"""

_OF_CHARGE = "org_id, invoice_id, subscription_id, charge_id, metric_id, period_start, period_end"

_BILLED = f"""
        with billed as materialized (
            select {", ".join("l." + column for column in _OF_CHARGE.split(", "))}, sum(l.events_count) as events_count,
                sum(l.units) as units
            from invoice_lines l left join invoices i on i.org_id = l.org_id and i.id = l.invoice_id
            where $org(l) and {_IN_ARREARS}
            group by 1, 2, 3, 4, 5, 6, 7
        )"""

_IDS = """jsonb_build_object('invoice_id', b.invoice_id, 'subscription_id', b.subscription_id, 'charge_id', b.charge_id,
            'metric_id', b.metric_id, 'period_start', b.period_start) as ids"""

_SAME_PERIOD = """e on (e.org_id, e.subscription_id, e.metric_id, e.period_start, e.period_end)
            = (b.org_id, b.subscription_id, b.metric_id, b.period_start, b.period_end)"""

CHECKS = (
    Check(
        "invoice_is_the_sum_of_its_lines",
        "an invoice's fees and taxes are the sums of its lines",
        """
        select i.org_id, jsonb_build_object('invoice_id', i.id, 'number', i.number) as ids,
            coalesce(l.fees, 0) || ' and ' || coalesce(l.taxes, 0) as expected,
            i.fees_amount_cents || ' and ' || i.taxes_amount_cents as found
        from invoices i left join (
            select org_id, invoice_id, sum(amount_cents) as fees, sum(taxes_amount_cents) as taxes from invoice_lines l
            where $org(l) and invoice_id is not null group by 1, 2
        ) l on l.org_id = i.org_id and l.invoice_id = i.id
        where $org(i) and i.status in ('draft', 'finalized', 'voided')
            and (i.fees_amount_cents <> coalesce(l.fees, 0) or i.taxes_amount_cents <> coalesce(l.taxes, 0))""",
    ),
    Check(
        "invoice_is_reduced_by_its_credits",
        "what an invoice was reduced by, kind by kind, is the sum of its credits",
        """
        select i.org_id, jsonb_build_object('invoice_id', i.id, 'number', i.number) as ids,
            concat_ws(' ', c.progressive, c.coupons, c.notes, c.wallets) as expected,
            concat_ws(' ', i.progressive_billing_credit_amount_cents, i.coupons_amount_cents, i.credit_notes_amount_cents,
                i.prepaid_credit_amount_cents) as found
        from invoices i left join (
            select org_id, invoice_id,
                coalesce(sum(amount_cents) filter (where kind = 'progressive_billing'), 0) as progressive,
                coalesce(sum(amount_cents) filter (where kind = 'coupon'), 0) as coupons,
                coalesce(sum(amount_cents) filter (where kind = 'credit_note'), 0) as notes,
                coalesce(sum(amount_cents) filter (where kind = 'wallet'), 0) as wallets
            from invoice_credits c where $org(c) group by 1, 2
        ) c on c.org_id = i.org_id and c.invoice_id = i.id
        where $org(i) and i.status in ('draft', 'finalized', 'voided')
            and (i.progressive_billing_credit_amount_cents, i.coupons_amount_cents, i.credit_notes_amount_cents,
                i.prepaid_credit_amount_cents) is distinct from (coalesce(c.progressive, 0), coalesce(c.coupons, 0),
                coalesce(c.notes, 0), coalesce(c.wallets, 0))""",
    ),
    Check(
        "invoice_total_follows_from_its_parts",
        "an invoice's total is its fees less coupons and progressive credits, with taxes, less credit notes and wallets",
        """
        select org_id, jsonb_build_object('invoice_id', id, 'number', number) as ids, parts::text as expected,
            total_amount_cents::text as found
        from (
            select *, fees_amount_cents - coupons_amount_cents - progressive_billing_credit_amount_cents + taxes_amount_cents
                - credit_notes_amount_cents - prepaid_credit_amount_cents as parts
            from invoices i where $org(i)
        ) i where total_amount_cents <> parts""",
    ),
    Check(
        "invoice_numbers_have_no_gap",
        "an organization's invoices are numbered 1, 2, 3 ...",
        """
        select org_id, jsonb_build_object('invoice_id', id) as ids, place::text as expected, sequential_id::text as found
        from (
            select org_id, id, sequential_id, row_number() over (partition by org_id order by sequential_id) as place
            from invoices i where $org(i) and sequential_id is not null
        ) i where sequential_id <> place""",
    ),
    Check(
        "billed_events_are_the_events",
        "the events that an invoice counts for a charge are those of its period",
        f"""{_BILLED}
        select b.org_id, {_IDS}, e.n::text as expected, b.events_count::text as found
        from billed b join ({_EVENTS}
        ) {_SAME_PERIOD}
        where b.events_count not in (e.n, e.unpaid)""",
    ),
    Check(
        "billed_units_are_the_usage",
        "the units that an invoice bills for a charge are what the events of its period add up to (plain sums and counts)",
        f"""{_BILLED}
        select b.org_id, {_IDS}, e.total::text as expected, b.units::text as found
        from billed b join billable_metrics m on m.org_id = b.org_id and m.id = b.metric_id
            and m.aggregation_type in ('sum_agg', 'count_agg') and m.rounding_function is null and not m.recurring
        join ({_EVENTS}
        ) {_SAME_PERIOD}
        where b.events_count = e.n and b.units <> e.total
            or b.events_count = e.unpaid and b.units <> e.unpaid_total""",
    ),
    Check(
        "event_is_charged_in_advance_once",
        "a charge in advance charges an event once",
        """
        select org_id, jsonb_build_object('subscription_id', subscription_id, 'charge_id', charge_id,
                'event_transaction_id', event_transaction_id) as ids, '1 fee' as expected, count(*) || ' fees' as found
        from invoice_lines l where $org(l) and event_transaction_id is not null
        group by org_id, subscription_id, charge_id, event_transaction_id having count(*) > 1""",
    ),
    Check(
        "fee_in_advance_has_its_event",
        "what a fee in advance charges is an event that is stored",
        """
        select l.org_id, jsonb_build_object('line_id', l.id, 'event_transaction_id', l.event_transaction_id) as ids,
            'an event' as expected, 'none' as found
        from invoice_lines l left join event_ids e on e.org_id = l.org_id and e.transaction_id = l.event_transaction_id
        where $org(l) and l.event_transaction_id is not null and e.transaction_id is null""",
    ),
    Check(
        "progressive_credit_was_charged",
        "a progressive credit is not more than the progressive invoice charged that it gives back",
        """
        select c.org_id, jsonb_build_object('invoice_id', c.invoice_id, 'progressive_invoice_id', c.source_id) as ids,
            coalesce('up to ' || p.fees_amount_cents, 'a progressive invoice') as expected, c.amount_cents::text as found
        from invoice_credits c
        join invoices i on i.org_id = c.org_id and i.id = c.invoice_id and i.status in ('draft', 'finalized')
        left join invoices p on p.org_id = c.org_id and p.id = c.source_id and p.invoice_type = 'progressive_billing'
        where $org(c) and c.kind = 'progressive_billing' and (p.id is null or c.amount_cents > p.fees_amount_cents)""",
    ),
    Check(
        "coupon_uses_are_invoice_credits",
        "what an applied coupon gave an invoice is what the invoice was reduced by",
        """
        select coalesce(u.org_id, c.org_id) as org_id, jsonb_build_object('invoice_id', coalesce(u.invoice_id, c.invoice_id),
                'applied_coupon_id', coalesce(u.applied_coupon_id, c.source_id)) as ids,
            u.amount_cents::text as expected, c.amount_cents::text as found
        from (select * from coupon_uses u where $org(u)) u
        full join (select * from invoice_credits c where $org(c) and kind = 'coupon') c
            on c.org_id = u.org_id and c.invoice_id = u.invoice_id and c.source_id = u.applied_coupon_id
        where c.amount_cents is distinct from u.amount_cents""",
    ),
)

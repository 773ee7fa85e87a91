"""Accounts, grants, entries, allocations: the balance is what the history says, to the last digit."""

from nozle_server.audit.model import Check

CHECKS = (
    Check(
        "balance_is_the_sum_of_entries",
        "an account's balance is the sum of its entries",
        """
        select a.org_id, jsonb_build_object('account_id', a.id, 'customer_id', a.customer_id) as ids,
            coalesce(e.total, 0)::text as expected, a.balance::text as found
        from credit_accounts a left join (
            select org_id, account_id, sum(amount) as total from ledger_entries e where $org(e) group by 1, 2
        ) e on e.org_id = a.org_id and e.account_id = a.id
        where $org(a) and a.balance <> coalesce(e.total, 0)""",
    ),
    Check(
        "balance_is_what_grants_hold",
        "an account's balance is the sum of what is left of its grants",
        """
        select a.org_id, jsonb_build_object('account_id', a.id, 'customer_id', a.customer_id) as ids,
            coalesce(g.total, 0)::text as expected, a.balance::text as found
        from credit_accounts a left join (
            select org_id, account_id, sum(remaining) as total from credit_grants g where $org(g) group by 1, 2
        ) g on g.org_id = a.org_id and g.account_id = a.id
        where $org(a) and a.balance <> coalesce(g.total, 0)""",
    ),
    Check(
        "totals_are_the_sums_of_entries",
        "what an account was granted, refunded, adjusted, transferred, consumed, lost by expiry and voids, and holds, are the"
        " sums of those entries",
        """
        select a.org_id, jsonb_build_object('account_id', a.id, 'customer_id', a.customer_id) as ids,
            concat_ws(' ', e.granted, e.refunded, e.adjusted, e.transferred, e.consumed, e.expired, e.voided, e.held)
                as expected,
            concat_ws(' ', a.granted, a.refunded, a.adjusted, a.transferred, a.consumed, a.expired, a.voided, a.held) as found
        from credit_accounts a left join (
            select org_id, account_id,
                sum(amount) filter (where type = 'grant') as granted, sum(amount) filter (where type = 'refund') as refunded,
                sum(amount) filter (where type = 'adjustment') as adjusted,
                sum(amount) filter (where type = 'transfer') as transferred,
                -sum(amount) filter (where type = 'deduct') as consumed,
                -sum(amount) filter (where type = 'expire') as expired, -sum(amount) filter (where type = 'void') as voided,
                -sum(amount) filter (where type in ('hold', 'release')) as held
            from ledger_entries e where $org(e) group by 1, 2
        ) e on e.org_id = a.org_id and e.account_id = a.id
        where $org(a) and (a.granted, a.refunded, a.adjusted, a.transferred, a.consumed, a.expired, a.voided, a.held)
            is distinct from (coalesce(e.granted, 0), coalesce(e.refunded, 0), coalesce(e.adjusted, 0),
                coalesce(e.transferred, 0), coalesce(e.consumed, 0), coalesce(e.expired, 0), coalesce(e.voided, 0),
                coalesce(e.held, 0))""",
    ),
    Check(
        "nothing_is_below_zero",
        "no balance, now or after any entry, and nothing that is left of a grant is negative",
        """
        select a.org_id, jsonb_build_object('account_id', a.id) as ids, '0 or more' as expected, a.balance::text as found
        from credit_accounts a where $org(a) and a.balance < 0
        union all
        select g.org_id, jsonb_build_object('grant_id', g.id), '0 to ' || g.amount, g.remaining::text
        from credit_grants g where $org(g) and (g.remaining < 0 or g.remaining > g.amount)
        union all
        select e.org_id, jsonb_build_object('entry_id', e.id), '0 or more', e.balance_after::text
        from ledger_entries e where $org(e) and e.balance_after < 0""",
    ),
    Check(
        "remaining_is_the_sum_of_allocations",
        "what is left of a grant is the sum of its allocations",
        """
        select g.org_id, jsonb_build_object('grant_id', g.id, 'account_id', g.account_id) as ids,
            coalesce(l.total, 0)::text as expected, g.remaining::text as found
        from credit_grants g left join (
            select org_id, grant_id, sum(amount) as total from ledger_allocations l where $org(l) group by 1, 2
        ) l on l.org_id = g.org_id and l.grant_id = g.id
        where $org(g) and g.remaining <> coalesce(l.total, 0)""",
    ),
    Check(
        "entry_is_the_sum_of_allocations",
        "an entry's amount is the sum of its allocations, all of them to grants of its own account",
        """
        select e.org_id, jsonb_build_object('entry_id', e.id, 'account_id', e.account_id) as ids,
            e.amount::text as expected, coalesce(l.total, 0)::text as found
        from ledger_entries e left join (
            select l.org_id, l.entry_id, g.account_id, sum(l.amount) as total from ledger_allocations l
            join credit_grants g on g.org_id = l.org_id and g.id = l.grant_id
            where $org(l) group by 1, 2, 3
        ) l on l.org_id = e.org_id and l.entry_id = e.id and l.account_id = e.account_id
        where $org(e) and e.amount <> coalesce(l.total, 0)""",
    ),
    Check(
        "balances_after_run_on",
        "the balance after each entry is the running sum of the account's entries",
        """
        select org_id, jsonb_build_object('entry_id', id, 'account_id', account_id, 'sequence', sequence) as ids,
            running::text as expected, balance_after::text as found
        from (
            select org_id, id, account_id, sequence, balance_after,
                sum(amount) over (partition by org_id, account_id order by sequence) as running
            from ledger_entries e where $org(e)
        ) e where balance_after <> running""",
    ),
    Check(
        "entries_are_numbered_without_a_gap",
        "an account's entries are numbered 1, 2, 3 ... to its last sequence",
        """
        select a.org_id, jsonb_build_object('account_id', a.id) as ids,
            '1 to ' || coalesce(e.n, 0) || ' of ' || coalesce(e.n, 0) as expected,
            coalesce(e.first, 0) || ' to ' || coalesce(e.last, 0) || ' of ' || a.last_sequence as found
        from credit_accounts a left join (
            select org_id, account_id, count(distinct sequence) as n, min(sequence) as first, max(sequence) as last
            from ledger_entries e where $org(e) group by 1, 2
        ) e on e.org_id = a.org_id and e.account_id = a.id
        where $org(a) and (coalesce(e.n, 0) <> a.last_sequence or e.n <> e.last or e.first <> 1)""",
    ),
    Check(
        "grant_has_one_entry",
        "a grant was entered exactly once, with its whole amount",
        """
        select g.org_id, jsonb_build_object('grant_id', g.id, 'account_id', g.account_id) as ids,
            'one entry of ' || g.amount as expected, coalesce(l.n, 0) || ' of ' || coalesce(l.total, 0) as found
        from credit_grants g left join (
            select l.org_id, l.grant_id, count(*) as n, sum(l.amount) as total from ledger_allocations l
            join ledger_entries e on e.org_id = l.org_id and e.id = l.entry_id
            join credit_grants g on g.org_id = l.org_id and g.id = l.grant_id
            where $org(l) and l.amount > 0 and e.type = case when g.source = 'adjustment' then 'adjustment'
                when g.source in ('transfer', 'allocation') then 'transfer' else 'grant' end
            group by 1, 2
        ) l on l.org_id = g.org_id and l.grant_id = g.id
        where $org(g) and (l.n is distinct from 1 or l.total <> g.amount)""",
    ),
    Check(
        "refund_is_of_its_deduction",
        "what is refunded was deducted of the same account, and comes to no more than that",
        """
        select r.org_id, jsonb_build_object('entry_id', r.refunds_id, 'account_id', r.account_id) as ids,
            coalesce('up to ' || -d.amount, 'a deduction') as expected, r.total::text as found
        from (
            select org_id, account_id, refunds_id, sum(amount) as total from ledger_entries e
            where $org(e) and type = 'refund' group by 1, 2, 3
        ) r left join ledger_entries d on d.org_id = r.org_id and d.id = r.refunds_id and d.account_id = r.account_id
            and d.type = 'deduct'
        where d.id is null or r.total > -d.amount""",
    ),
    Check(
        "transfers_cancel_out",
        "what an organization's accounts of a credit system transferred to each other comes to nothing",
        """
        select org_id, jsonb_build_object('credit_system', credit_system) as ids, '0' as expected,
            sum(transferred)::text as found
        from credit_accounts a where $org(a) and kind = 'credits' group by org_id, credit_system
        having sum(transferred) <> 0""",
    ),
)

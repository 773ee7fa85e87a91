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
        "what an account was granted, consumed, lost by expiry and by voids are the sums of those entries",
        """
        select a.org_id, jsonb_build_object('account_id', a.id, 'customer_id', a.customer_id) as ids,
            concat_ws(' ', coalesce(e.granted, 0), coalesce(e.consumed, 0), coalesce(e.expired, 0), coalesce(e.voided, 0))
                as expected,
            concat_ws(' ', a.granted, a.consumed, a.expired, a.voided) as found
        from credit_accounts a left join (
            select org_id, account_id, sum(amount) filter (where type = 'grant') as granted,
                -sum(amount) filter (where type = 'deduct') as consumed,
                -sum(amount) filter (where type = 'expire') as expired, -sum(amount) filter (where type = 'void') as voided
            from ledger_entries e where $org(e) group by 1, 2
        ) e on e.org_id = a.org_id and e.account_id = a.id
        where $org(a) and (a.granted, a.consumed, a.expired, a.voided) is distinct from
            (coalesce(e.granted, 0), coalesce(e.consumed, 0), coalesce(e.expired, 0), coalesce(e.voided, 0))""",
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
            'one entry of ' || g.amount as expected,
            coalesce(l.n, 0) || ' of ' || coalesce(l.total, 0) as found
        from credit_grants g left join (
            select l.org_id, l.grant_id, e.type, count(*) as n, sum(l.amount) as total from ledger_allocations l
            join ledger_entries e on e.org_id = l.org_id and e.id = l.entry_id
                and e.type in ('grant', 'transfer', 'adjustment')
            where $org(l) and l.amount > 0 group by 1, 2, 3
        ) l on l.org_id = g.org_id and l.grant_id = g.id and l.type = case g.source
            when 'allocation' then 'transfer' when 'transfer' then 'transfer'
            when 'adjustment' then 'adjustment' else 'grant' end
        where $org(g) and (l.n is distinct from 1 or l.total <> g.amount)""",
    ),
)

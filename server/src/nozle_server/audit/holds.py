"""Holds, what they left owing, and the budgets that they count in."""

from nozle_server.audit.model import Check

CHECKS = (
    Check(
        "held_is_what_open_holds_hold",
        "what an account holds is the sum of its open holds",
        """
        select a.org_id, jsonb_build_object('account_id', a.id, 'customer_id', a.customer_id) as ids,
            coalesce(h.total, 0)::text as expected, a.held::text as found
        from credit_accounts a left join (
            select org_id, account_id, sum(amount) as total from credit_holds h where $org(h) and status = 'open' group by 1, 2
        ) h on h.org_id = a.org_id and h.account_id = a.id
        where $org(a) and a.held <> coalesce(h.total, 0)""",
    ),
    Check(
        "hold_is_in_the_ledger",
        "a hold was entered once, put back once when it ended, and deducted for what was settled and covered, then or later",
        """
        select h.org_id, jsonb_build_object('hold_id', h.id, 'account_id', h.account_id) as ids,
            concat_ws(' ', '1 of', h.amount, 'released', case when h.status = 'open' then '0 of 0' else '1 of ' || h.amount end,
                'taken', h.settled - h.uncovered + coalesce(r.paid, 0)) as expected,
            concat_ws(' ', coalesce(e.n, 0), 'of', coalesce(e.held, 0), 'released', coalesce(e.releases, 0), 'of',
                coalesce(e.released, 0), 'taken', coalesce(e.taken, 0)) as found
        from credit_holds h left join (
            select org_id, account_id, hold_id, count(*) filter (where type = 'hold') as n,
                -sum(amount) filter (where type = 'hold') as held, count(*) filter (where type = 'release') as releases,
                sum(amount) filter (where type = 'release') as released, -sum(amount) filter (where type = 'deduct') as taken
            from ledger_entries e where $org(e) and hold_id is not null group by 1, 2, 3
        ) e on e.org_id = h.org_id and e.account_id = h.account_id and e.hold_id = h.id
        left join (
            select org_id, hold_id, sum(paid) as paid from credit_receivables r where $org(r) group by 1, 2
        ) r on r.org_id = h.org_id and r.hold_id = h.id
        where $org(h) and (e.n is distinct from 1 or e.held <> h.amount or e.releases <> (h.status <> 'open')::int
            or e.released <> h.amount or coalesce(e.taken, 0) <> h.settled - h.uncovered + coalesce(r.paid, 0))""",
    ),
    Check(
        "uncovered_is_owed",
        "what a settlement left uncovered is a receivable",
        """
        select h.org_id, jsonb_build_object('hold_id', h.id, 'account_id', h.account_id) as ids, h.uncovered::text as expected,
            coalesce(r.total, 0)::text as found
        from credit_holds h left join (
            select org_id, hold_id, account_id, sum(amount) as total from credit_receivables r where $org(r) group by 1, 2, 3
        ) r on r.org_id = h.org_id and r.hold_id = h.id and r.account_id = h.account_id
        where $org(h) and h.uncovered <> coalesce(r.total, 0)""",
    ),
    Check(
        "receivable_is_what_is_owed",
        "what an account owes is the sum of what is open of its receivables",
        """
        select a.org_id, jsonb_build_object('account_id', a.id, 'customer_id', a.customer_id) as ids,
            coalesce(r.total, 0)::text as expected, a.receivable::text as found
        from credit_accounts a left join (
            select org_id, account_id, sum(amount - paid) as total from credit_receivables r where $org(r) group by 1, 2
        ) r on r.org_id = a.org_id and r.account_id = a.id
        where $org(a) and a.receivable <> coalesce(r.total, 0)""",
    ),
    Check(
        "budget_counts_open_holds",
        "the window of a budget is used at least for what open holds set aside in it",
        """
        select h.org_id, jsonb_build_object('budget_id', h.budget_id, 'window_start', h.window_start) as ids,
            h.total || ' or more' as expected, coalesce(u.used, 0)::text as found
        from (
            select h.org_id, w.budget_id, w.window_start, sum(h.amount) as total
            from credit_holds h cross join lateral unnest(h.budget_ids, h.budget_windows) as w (budget_id, window_start)
            where $org(h) and h.status = 'open' group by 1, 2, 3
        ) h join credit_budgets b on b.org_id = h.org_id and b.id = h.budget_id
        left join credit_budget_usage u on u.org_id = h.org_id and u.budget_id = h.budget_id
            and u.window_start = h.window_start
        where coalesce(u.used, 0) < h.total""",
    ),
)

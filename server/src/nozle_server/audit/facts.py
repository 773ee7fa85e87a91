"""Facts announced in the outbox. They are kept for seven days (`infra/retention.py`): what is older than the oldest that
is certainly kept is not held to having one."""

from nozle_server.audit.model import Check

_ANNOUNCED = """
            select o.org_id, o.payload ->> 'entry_id' as entry_id, count(*) as n from outbox o
            where $org(o) and (o.kind like 'credits.%' or o.kind like 'money.%') and o.payload ->> 'entry_id' is not null
            group by 1, 2"""

CHECKS = (
    Check(
        "entry_is_announced_once",
        "every ledger entry has exactly one fact, for as long as facts are kept",
        f"""
        select e.org_id, jsonb_build_object('entry_id', e.id, 'account_id', e.account_id) as ids, '1' as expected,
            coalesce(o.n, 0)::text as found
        from ledger_entries e left join ({_ANNOUNCED}
        ) o on o.org_id = e.org_id and o.entry_id = e.id::text
        where $org(e) and coalesce(o.n, 0) <> 1 and (e.id >= $kept or o.n > 1)""",
    ),
    Check(
        "fact_has_its_entry",
        "every fact about credits or money that names an entry names one that exists, of its organization",
        f"""
        select o.org_id, jsonb_build_object('entry_id', o.entry_id) as ids, 'an entry' as expected, 'none' as found
        from ({_ANNOUNCED}
        ) o left join ledger_entries e on e.org_id = o.org_id and e.id::text = o.entry_id
        where e.id is null""",
    ),
    Check(
        "payment_is_announced_once",
        "every payment has exactly one fact, for as long as facts are kept",
        """
        select p.org_id, jsonb_build_object('payment_id', p.id) as ids, '1' as expected, coalesce(o.n, 0)::text as found
        from payments p left join (
            select org_id, subject, count(*) as n from outbox o where $org(o) and kind = 'payment.recorded' group by 1, 2
        ) o on o.org_id = p.org_id and o.subject = p.id::text
        where $org(p) and coalesce(o.n, 0) <> 1 and (p.id >= $kept or o.n > 1)""",
    ),
)

"""Idempotency keys: one effect each. That a key was not claimed twice is its primary key."""

from nozle_server.audit.model import Check

# An answer is the body that was sent: JSON in UTF-8.
_REFUSALS = """
            select k.org_id, k.operation, k.key, convert_from(k.response, 'UTF8')::jsonb as answer from idempotency_keys k
            where $org(k) and k.ledger and k.status = 200 and position('"allowed":false'::bytea in k.response) > 0"""

CHECKS = (
    Check(
        "key_has_its_answer",
        "an idempotency key that was claimed has the answer of the call that claimed it",
        """
        select k.org_id, jsonb_build_object('operation', k.operation, 'key', k.key) as ids, 'an answer' as expected,
            'status ' || k.status as found
        from idempotency_keys k where $org(k) and (k.response is null or k.status not between 200 and 299)""",
    ),
    Check(
        "refusal_moved_nothing",
        "an answer that says no names no entry, no hold and no operation that there is",
        f"""
        select r.org_id, jsonb_build_object('operation', r.operation, 'key', r.key, 'id', m.id) as ids, 'nothing' as expected,
            m.what as found
        from ({_REFUSALS}
        ) r cross join lateral jsonb_each_text(r.answer) as named (field, value)
        join (
            select org_id, id, type as what from ledger_entries e where $org(e)
            union all select org_id, id, 'a hold' from credit_holds h where $org(h)
        ) m on m.org_id = r.org_id and replace(m.id::text, '-', '') = right(replace(named.value, '-', ''), 32)
        where named.field in ('id', 'operation_id', 'transaction_id', 'entry_id', 'hold_id')""",
    ),
    Check(
        "acknowledged_deductions_are_entries",
        "there are at least as many deductions as were acknowledged under keys",
        """
        select k.org_id, jsonb_build_object('operation', 'POST /check-and-deduct') as ids, k.n || ' or more' as expected,
            coalesce(e.n, 0)::text as found
        from (
            select org_id, count(*) as n from idempotency_keys k where $org(k) and operation = 'POST /check-and-deduct'
                and status = 200 and position('"allowed":true'::bytea in response) > 0
            group by 1
        ) k left join (
            select org_id, count(*) as n from ledger_entries e where $org(e) and type = 'deduct' group by 1
        ) e on e.org_id = k.org_id
        where k.n > coalesce(e.n, 0)""",
    ),
)

"""Idempotency keys: one effect each. That a key was not claimed twice is its primary key."""

from nozle_server.audit.model import Check

# An answer is the body that was sent: JSON in UTF-8.
_DENIED = """
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
)

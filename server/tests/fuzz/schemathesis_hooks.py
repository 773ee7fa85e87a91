"""What Schemathesis loads before it runs (`SCHEMATHESIS_HOOKS`): real ids, and one check of our own.

`NOZLE_FUZZ_IDS` holds a JSON object: names of parameters and body fields to the ids of objects that exist.
"""

import json
import os
import zlib
from typing import Any

import schemathesis

_IDS: dict[str, list[str]] = json.loads(os.environ["NOZLE_FUZZ_IDS"])
# What `{id}` and `{code}` in a path mean, by the path's words around them.
_OF_PATH = {
    "/credits/": "customer_id",
    "/cost-models/": "cost_model_id",
    "/invoices/": "invoice_id",
    "/billable_metrics/": "metric_code",
    "/features/": "feature",
    "/plans/": "plan_code",
}
_HOLDERS = ("event", "customer", "plan", "feature", "billable_metric")


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Half of the well-formed cases speak of objects that exist; malformed ones stay as they were made."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    if isinstance(case.path_parameters, dict):
        for name in case.path_parameters:
            _name_a_real_one(case.path_parameters, name, _meaning(case, name))
    if isinstance(case.query, dict):
        for name in case.query:
            _name_a_real_one(case.query, name, name)
    if isinstance(case.body, dict):
        for holder in (case.body, *(case.body.get(name) for name in _HOLDERS)):
            if isinstance(holder, dict):
                for name in holder:
                    _name_a_real_one(holder, name, name)
    return case


def _meaning(case: schemathesis.Case, name: str) -> str:
    if name in ("id", "code"):
        return next(meaning for part, meaning in _OF_PATH.items() if part in case.operation.path)
    return name


def _name_a_real_one(container: dict[str, Any], name: str, meaning: str) -> None:
    value, known = container[name], _IDS.get(meaning)
    if known and isinstance(value, str):
        # From the value itself, so that the same case is made the same way in every run.
        draw = zlib.crc32(value.encode(errors="replace"))
        if draw % 2:
            container[name] = known[draw // 2 % len(known)]


@schemathesis.check
def errors_have_one_form(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Every error, also of a method or path that nobody documented, is JSON with `error`, and names its request."""
    assert response.headers.get("x-request-id"), "an answer without X-Request-Id"
    if response.status_code >= 400 and case.method.upper() != "HEAD":
        body = json.loads(response.content)
        assert isinstance(body, dict), "an error that is not an object"
        assert isinstance(body.get("error"), str), "an error without a sentence"


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: schemathesis.core.failures.Failure,
    case: schemathesis.Case,
    response: schemathesis.Response,
) -> bool:
    """Drop one thing that is no fault: a secret key needs no customer session, so the session's header is not read
    beside it, and a header of 300 bytes there is ignored like any other."""
    ignored = "parameter `X-Nozle-Customer-Session` in header"
    return not ("Invalid component" in failure.message and ignored in failure.message)

"""What Schemathesis loads before it runs (`SCHEMATHESIS_HOOKS`): real ids, and one check of our own.

`NOZLE_FUZZ_IDS` holds a JSON object: names of parameters and body fields to the ids of objects that exist.
"""

import json
import os
import zlib
from typing import Any
from urllib.parse import quote

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase

_IDS: dict[str, list[str]] = json.loads(os.environ["NOZLE_FUZZ_IDS"])
_OF_PATH = {
    "/credits/": "customer_id",
    "/cost-models/": "cost_model_id",
    "/invoices/": "invoice_id",
    "/billable_metrics/": "metric_code",
    "/features/": "feature",
    "/plans/": "plan_code",
    "/events/": "metric_code",
}
_HOLDERS = ("event", "customer", "plan", "feature", "billable_metric")


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Half of the ids in well-formed parts of a case become those of objects that exist; malformed parts stay.

    Three of four idempotency keys are dropped: Schemathesis sends one and the same with many bodies, and a 409 for the
    key would hide what the body does.
    """
    if case.meta is None:
        return case
    chained = case.meta.phase.name is TestPhase.STATEFUL  # its ids come from the calls before
    draw = _Draw(f"{case.method}{case.path}{case.path_parameters}{case.query}{case.body!r}")
    for location, container in (
        (ParameterLocation.PATH, case.path_parameters),
        (ParameterLocation.QUERY, case.query),
        (ParameterLocation.BODY, case.body),
    ):
        if isinstance(container, dict) and not chained and not case.meta.is_negative_at(location):
            for holder in (container, *(container.get(name) for name in _HOLDERS)):
                if isinstance(holder, dict):
                    _name_real_ones(case, holder, draw, in_path=location is ParameterLocation.PATH)
    if not case.meta.is_negative_at(ParameterLocation.HEADER) and draw.of(4):
        case.headers.pop("Idempotency-Key", None)
    return case


class _Draw:
    """Chances that follow from the case itself, so that it is made the same way in every run."""

    def __init__(self, text: str) -> None:
        self._text, self._drawn = text, 0

    def of(self, chances: int) -> int:
        self._drawn += 1
        return zlib.crc32(f"{self._drawn} {self._text}".encode(errors="replace")) // 8 % chances


def _name_real_ones(case: schemathesis.Case, holder: dict[str, Any], draw: _Draw, *, in_path: bool) -> None:
    for name, value in holder.items():
        known = _IDS.get(_meaning(case, name))
        if known and isinstance(value, str) and draw.of(2):
            real = known[draw.of(len(known))]
            holder[name] = quote(real, safe="") if in_path else real


def _meaning(case: schemathesis.Case, name: str) -> str:
    """Which kind of object a name means: `{id}` and `{code}` tell only with the path around them."""
    if name in ("id", "code"):
        path = case.operation.path + "/"
        return next((meaning for part, meaning in _OF_PATH.items() if part in path), name)
    return name


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

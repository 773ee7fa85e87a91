"""Margin policies: floors under what a use earns, for a customer, a feature, a plan or the organization."""

from typing import Any

from nozle_server.api.endpoint import SEED, Call, Endpoint, Example, Scope
from nozle_server.api.paging import PageQuery, page_meta
from nozle_server.api.rights import rights_changed
from nozle_server.api.shapes import (
    BOOLEAN,
    INSTANT,
    INTEGER,
    NUMBER,
    PAGE_META,
    STRING,
    array,
    optional,
    shape,
)
from nozle_server.core.errors import InvalidInput
from nozle_server.core.ids import from_text, to_text
from nozle_server.core.text import parse_id
from nozle_server.entitlements import policies, policy_store
from nozle_server.entitlements.policy import Scope as PolicyScope
from nozle_server.entitlements.policy_store import PolicyVersion


class PoliciesQuery(PageQuery):
    """`target` is the merchant's id of a customer, or the code of a plan or feature."""

    scope: PolicyScope | None = None
    target: str | None = None


async def put(call: Call) -> object:
    scope, target = _whose(call)
    found = await policies.set_policy(
        call.tx,
        org_id=call.org_id,
        scope=scope,
        target=target,
        draft=call.body,
        now=call.now,
        by=call.principal.key_id,
    )
    await _changed(call, scope, target)
    return policy_json(found)


async def show(call: Call) -> object:
    scope, target = _whose(call)
    return policy_json(await policies.get_policy(call.tx, org_id=call.org_id, scope=scope, target=target))


async def delete(call: Call) -> object:
    scope, target = _whose(call)
    removed = await policies.remove_policy(
        call.tx, org_id=call.org_id, scope=scope, target=target, now=call.now, by=call.principal.key_id
    )
    await _changed(call, scope, target)
    return policy_json(removed)


async def index(call: Call) -> object:
    return await _listed(call, "margin_policies", in_force=True)


async def list_versions(call: Call) -> object:
    return await _listed(call, "margin_policy_versions", in_force=False)


async def show_version(call: Call) -> object:
    version_id = from_text("mp", call.path["id"], what="margin policy")
    return policy_json(await policies.get_version(call.tx, org_id=call.org_id, version_id=version_id))


async def _listed(call: Call, name: str, *, in_force: bool) -> object:
    query: PoliciesQuery = call.query
    found, total = await policy_store.list_versions(
        call.tx,
        call.org_id,
        scope=query.scope,
        target=None if query.target is None else parse_id(query.target, "target"),
        in_force=in_force,
        limit=query.per_page,
        offset=query.offset,
    )
    return {name: [policy_json(one) for one in found], "meta": page_meta(query, total)}


def _whose(call: Call) -> tuple[PolicyScope, str | None]:
    if "scope" not in call.path:
        return PolicyScope.ORGANIZATION, None
    try:
        scope = PolicyScope(call.path["scope"])
    except ValueError:
        scope = PolicyScope.ORGANIZATION
    if scope is PolicyScope.ORGANIZATION:
        raise InvalidInput("scope must be customer, feature or plan", details={"scope": ["value_is_invalid"]})
    return scope, parse_id(call.path["target"], "target")


async def _changed(call: Call, scope: PolicyScope, target: str | None) -> None:
    await rights_changed(call, customer=target if scope is PolicyScope.CUSTOMER else None)


def policy_json(one: PolicyVersion) -> dict[str, object]:
    terms = one.terms
    assert terms.version_id is not None, "a stored policy is a version"
    return {
        "version_id": to_text("mp", terms.version_id),
        "version": one.version,
        "scope": one.scope,
        "target": one.target,
        "minimum_margin_percent": terms.minimum_margin_percent,
        "min_margin_percent": terms.minimum_margin_percent,
        "minimum_margin_amount": terms.minimum_margin_amount,
        "maximum_estimated_cost": terms.maximum_estimated_cost,
        "mode": terms.mode,
        "on_unavailable": terms.on_unavailable,
        "maximum_snapshot_age_seconds": terms.maximum_snapshot_age_seconds,
        "in_force": one.in_force,
        "removed": one.removed,
        "created_at": one.created_at,
        "created_by": one.created_by,
    }


_SHAPE = shape(
    version_id=STRING,
    version=INTEGER,
    scope=STRING,
    target=optional(STRING),
    minimum_margin_percent=optional(NUMBER),
    min_margin_percent=optional(NUMBER),
    minimum_margin_amount=optional(NUMBER),
    maximum_estimated_cost=optional(NUMBER),
    mode=optional(STRING),
    on_unavailable=STRING,
    maximum_snapshot_age_seconds=optional(INTEGER),
    in_force=BOOLEAN,
    removed=BOOLEAN,
    created_at=INSTANT,
    created_by=optional(STRING),
)
_EXAMPLE: dict[str, Any] = {
    "version_id": "mp_019a2f6e0a1b7c2d9e3f4a5b6c7d8e9f",
    "version": 2,
    "scope": "plan",
    "target": "pro",
    "minimum_margin_percent": 25,
    "min_margin_percent": 25,
    "minimum_margin_amount": None,
    "maximum_estimated_cost": None,
    "mode": "deny",
    "on_unavailable": "allow",
    "maximum_snapshot_age_seconds": 5,
    "in_force": True,
    "removed": False,
    "created_at": "2026-01-15T10:30:00Z",
    "created_by": "019a2f6e-1111-7c2d-9e3f-4a5b6c7d8e9f",
}
_TERMS = {"min_margin_percent": 25, "mode": "deny", "maximum_snapshot_age_seconds": 5}
_RULES = (
    "`can()` judges the next use by the most specific policy: the customer's, else the privilege `min_margin_percent` of the"
    " plan's entitlement, else the feature's, the plan's, the organization's, else the organization's setting. A policy"
    " holds whole, terms of several are not mixed. `min_margin_percent` is a part of the price (at most 100; a floor met"
    " exactly is met), `minimum_margin_amount` and `maximum_estimated_cost` are cents a use; at least one is needed."
    " `mode` is `observe`, `warn` or `deny`; without one it is that of the organization's policy, else its setting"
    " `margin_enforcement`; only `deny` denies. `on_unavailable` says"
    " whether a use counts as good enough (`allow`) or not (`deny`) while its cost or price is not known, and"
    " `maximum_snapshot_age_seconds` how old averages may be that it is judged by."
)
_ORGANIZATION, _TARGET = "/margin/policies/organization", "/margin/policies/{scope}/{target}"
_TAG = "Costs and margin"


def _of_one(path: str, whose: str, example: dict[str, Any]) -> tuple[Endpoint, ...]:
    errors = (404,) if path is _ORGANIZATION else (400, 404)
    return (
        Endpoint(
            method="PUT",
            path=path,
            handler=put,
            scope=Scope.SECRET,
            mounts=SEED,
            summary=f"Set the margin policy of {whose}",
            description=_RULES
            + " The body is the whole policy. A change is a new version, in force with the next `can()`; the same terms"
            " again change nothing.",
            tag=_TAG,
            body=policies.PolicyDraft,
            body_aliases={"min_margin_percent": "minimum_margin_percent", "enforcement": "mode"},
            reply_schema=_SHAPE,
            errors=errors if path is _ORGANIZATION else (*errors, 422),
            idempotent=True,
            example=Example(request=_TERMS, response=example),
        ),
        Endpoint(
            method="GET",
            path=path,
            handler=show,
            scope=Scope.SECRET,
            mounts=SEED,
            summary=f"Get the margin policy of {whose}",
            tag=_TAG,
            reply_schema=_SHAPE,
            errors=errors,
            example=Example(response=example),
        ),
        Endpoint(
            method="DELETE",
            path=path,
            handler=delete,
            scope=Scope.SECRET,
            mounts=SEED,
            summary=f"Remove the margin policy of {whose}",
            description="Less specific policies hold again, with the next `can()`. Its versions can still be read.",
            tag=_TAG,
            reply_schema=_SHAPE,
            errors=errors,
            idempotent=True,
            example=Example(response={**example, "in_force": False}),
        ),
    )


ENDPOINTS = (
    *_of_one(_ORGANIZATION, "the organization", {**_EXAMPLE, "scope": "organization", "target": None}),
    *_of_one(_TARGET, "a customer, feature or plan", _EXAMPLE),
    Endpoint(
        method="GET",
        path="/margin/policies",
        handler=index,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="List margin policies",
        description="Those in force, the latest first.",
        tag=_TAG,
        query=PoliciesQuery,
        reply_schema=shape(margin_policies=array(_SHAPE), meta=PAGE_META),
        example=Example(response={"margin_policies": [_EXAMPLE], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/margin/policy-versions",
        handler=list_versions,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="List versions of margin policies",
        description="All there ever were, the latest first: which terms held from when on, and by whose key.",
        tag=_TAG,
        query=PoliciesQuery,
        reply_schema=shape(margin_policy_versions=array(_SHAPE), meta=PAGE_META),
        example=Example(response={"margin_policy_versions": [_EXAMPLE], "meta": page_meta(PageQuery(), 1)}),
    ),
    Endpoint(
        method="GET",
        path="/margin/policy-versions/{id}",
        handler=show_version,
        scope=Scope.SECRET,
        mounts=SEED,
        summary="Get one version of a margin policy",
        description="As `can()` names it in `policy.version_id`.",
        tag=_TAG,
        reply_schema=_SHAPE,
        errors=(404,),
        example=Example(response=_EXAMPLE),
    ),
)

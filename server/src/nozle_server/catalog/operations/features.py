"""Define, change and remove features."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from nozle_server.catalog import feature_store
from nozle_server.catalog.drafts import (
    FeatureChange,
    FeatureDraft,
    PrivilegeChange,
    PrivilegeDraft,
    kept,
)
from nozle_server.catalog.model import Feature, Privilege
from nozle_server.catalog.queries import get_feature, get_metric
from nozle_server.core.errors import Conflict, InvalidInput, NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.text import parse_id, parse_text
from nozle_server.infra.database import Tx

VALUE_TYPES = ("integer", "boolean", "string", "select")

# What every plan may say about a feature that points at a metric (contract Decision 12).
LIMIT_PRIVILEGES = (
    Privilege("limit", "Limit", "number"),
    Privilege("overage", "Overage allowed", "boolean"),
    Privilege("min_margin_percent", "Minimum margin", "number"),
)


async def create_feature(tx: Tx, *, org_id: UUID, draft: FeatureDraft, now: datetime) -> Feature:
    """A new feature; Conflict `value_already_exist` when its code is taken, NotFound for an unknown metric."""
    feature = await plan_feature(tx, draft, org_id=org_id, previous=None, now=now)
    if not await feature_store.insert_feature(tx, feature):
        raise Conflict(
            "a feature with this code exists",
            code="value_already_exist",
            details={"code": ["value_already_exist"]},
        )
    return feature


async def update_feature(tx: Tx, *, org_id: UUID, code: str, draft: FeatureDraft, now: datetime) -> Feature:
    """Replace a feature's definition. Its code stays: callers of `can()` name it."""
    previous = await get_feature(tx, org_id, code)
    feature = await plan_feature(tx, draft, org_id=org_id, previous=previous, now=now)
    if feature.code != previous.code:
        raise InvalidInput("a feature keeps its code", details={"code": ["value_is_fixed"]})
    await feature_store.update_feature(tx, feature)
    return feature


async def change_feature(tx: Tx, *, org_id: UUID, code: str, change: FeatureChange, now: datetime) -> Feature:
    """Change what is said of a feature. Privileges that are named are added or changed, the others stay."""
    before = await get_feature(tx, org_id, code)
    if change.code not in (None, before.code):
        raise InvalidInput("a feature keeps its code", details={"code": ["value_is_fixed"]})
    draft = FeatureDraft(
        code=before.code,
        name=kept(change.name, before.name, None),
        description=kept(change.description, before.description, None),
        billable_metric_code=change.metric_code,
        privileges=_changed_privileges(before, change.privileges or []),
    )
    feature = await plan_feature(tx, draft, org_id=org_id, previous=before, now=now)
    await feature_store.update_feature(tx, feature)
    return feature


async def delete_privilege(tx: Tx, *, org_id: UUID, code: str, privilege_code: str, now: datetime) -> Feature:
    """Remove a privilege of a feature's own, and the value that plans and subscriptions give it."""
    before = await get_feature(tx, org_id, code)
    rest = tuple(one for one in before.privileges if one.code != privilege_code)
    if len(rest) == len(before.privileges):
        raise NotFound("privilege not found", code="privilege_not_found")
    feature = replace(before, privileges=rest, updated_at=now)
    await feature_store.update_feature(tx, feature)
    await feature_store.delete_privilege_values(tx, org_id, feature.id, privilege_code)
    return feature


async def delete_feature(tx: Tx, *, org_id: UUID, code: str, now: datetime) -> Feature:
    """Remove a feature and every plan's right to it."""
    feature = await get_feature(tx, org_id, code)
    await feature_store.delete_feature(tx, org_id, feature.id, now)
    return feature


async def plan_feature(
    tx: Tx, draft: FeatureDraft, *, org_id: UUID, previous: Feature | None, now: datetime
) -> Feature:
    """The feature that a draft describes."""
    code = parse_id(draft.code, "code")
    metric = await get_metric(tx, org_id, draft.metric_code) if draft.metric_code else None
    metric_id, metric_code = (metric.id, metric.code) if metric else (None, None)
    if metric is None and previous is not None:
        # A client that does not know the field must not make a limited feature unlimited by leaving it out.
        metric_id, metric_code = previous.metric_id, previous.metric_code
    return Feature(
        org_id=org_id,
        id=previous.id if previous else new_id(),
        code=code,
        name=parse_text(draft.name, "name", max_bytes=255) or code,
        description=parse_text(draft.description, "description"),
        metric_id=metric_id,
        metric_code=metric_code,
        privileges=_privileges(draft),
        created_at=previous.created_at if previous else now,
        updated_at=now,
    )


def _privileges(draft: FeatureDraft) -> tuple[Privilege, ...]:
    privileges = tuple(_privilege(one) for one in draft.privileges)
    codes = [one.code for one in privileges]
    if len(set(codes)) != len(codes):
        raise InvalidInput("a privilege is there twice", details={"privileges": ["value_is_duplicated"]})
    if reserved := {one.code for one in LIMIT_PRIVILEGES} & set(codes):
        raise InvalidInput(
            f"{', '.join(sorted(reserved))}: every metered feature has it, with a meaning of its own",
            details={"privileges": ["value_is_reserved"]},
        )
    return privileges


def _changed_privileges(before: Feature, changes: Sequence[PrivilegeChange]) -> list[PrivilegeDraft]:
    """All privileges after a change: a known one keeps its type, and a select one its options beside new ones."""
    if len({one.code for one in changes}) != len(changes):
        raise InvalidInput("a privilege is there twice", details={"privilege.code": ["value_is_duplicated"]})
    drafts = {
        one.code: PrivilegeDraft(
            code=one.code, name=one.name, value_type=one.value_type, config=dict(one.config)
        )
        for one in before.privileges
    }
    for change in changes:
        known = drafts.get(change.code)
        if known is None:
            drafts[change.code] = PrivilegeDraft(
                code=change.code,
                name=kept(change.name, None, None),
                value_type=change.value_type or "string",
                config=change.config or {},
            )
            continue
        if change.value_type not in (None, known.value_type):
            raise InvalidInput(
                "a privilege keeps its type: plans give it values of it",
                details={"privilege.value_type": ["value_is_fixed"]},
            )
        known.name = kept(change.name, known.name, None)
        options = (change.config or {}).get("select_options")
        if known.value_type == "select" and isinstance(options, list):
            known.config = {
                **known.config,
                "select_options": list(dict.fromkeys([*known.config["select_options"], *options])),
            }
    return list(drafts.values())


def _privilege(draft: PrivilegeDraft) -> Privilege:
    if draft.value_type not in VALUE_TYPES:
        raise InvalidInput(
            "value_type must be one of " + ", ".join(VALUE_TYPES),
            details={"privileges": ["value_is_invalid"]},
        )
    options = draft.config.get("select_options")
    if draft.value_type == "select" and not (
        isinstance(options, list) and options and all(isinstance(one, str) for one in options)
    ):
        raise InvalidInput(
            "a select privilege needs select_options", details={"privileges": ["value_is_invalid"]}
        )
    name = parse_text(draft.name, "privileges", max_bytes=255)
    return Privilege(parse_id(draft.code, "privileges"), name, draft.value_type, draft.config)

"""Define, change and remove features."""

from datetime import datetime
from uuid import UUID

from nozle_server.catalog import feature_store
from nozle_server.catalog.drafts import FeatureDraft, PrivilegeDraft
from nozle_server.catalog.model import Feature, Privilege
from nozle_server.catalog.queries import get_feature, get_metric
from nozle_server.core.errors import Conflict, InvalidInput
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


def _privilege(draft: PrivilegeDraft) -> Privilege:
    if draft.value_type not in VALUE_TYPES:
        raise InvalidInput(
            "value_type must be one of " + ", ".join(VALUE_TYPES),
            details={"privileges": ["value_is_invalid"]},
        )
    options = draft.config.get("select_options")
    if draft.value_type == "select" and not (isinstance(options, list) and options):
        raise InvalidInput(
            "a select privilege needs select_options", details={"privileges": ["value_is_invalid"]}
        )
    name = parse_text(draft.name, "privileges", max_bytes=255)
    return Privilege(parse_id(draft.code, "privileges"), name, draft.value_type, draft.config)

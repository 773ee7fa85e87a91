"""Changes of a plan's parts, one at a time, as changes of the plan: its list with one entry more, less or changed."""

from collections.abc import Callable, Sequence

from msgspec import structs

from nozle_server.catalog.drafts import ChargeDraft, ChargeFilterDraft, FixedChargeDraft, PlanChange
from nozle_server.catalog.model import Charge, ChargeFilter, FixedCharge, Plan, PlanVersion
from nozle_server.core.errors import InvalidInput, NotFound

Edit = Callable[[Plan], PlanChange]


def get_charge(version: PlanVersion, name: str) -> Charge:
    """The charge with this code or id; NotFound `charge_not_found`."""
    for one in version.charges:
        if one.code == name or str(one.id) == name:
            return one
    raise NotFound("charge not found", code="charge_not_found")


def get_fixed_charge(version: PlanVersion, name: str) -> FixedCharge:
    """The fixed charge with this code or id; NotFound `fixed_charge_not_found`."""
    for one in version.fixed_charges:
        if one.code == name or str(one.id) == name:
            return one
    raise NotFound("fixed charge not found", code="fixed_charge_not_found")


def get_filter(charge: Charge, filter_id: str) -> ChargeFilter:
    """The filter of a charge; NotFound `charge_filter_not_found`."""
    for one in charge.filters:
        if str(one.id) == filter_id:
            return one
    raise NotFound("charge filter not found", code="charge_filter_not_found")


def adding_charge(draft: ChargeDraft) -> Edit:
    """Another charge, the last of the list."""

    def edit(plan: Plan) -> PlanChange:
        # A new charge on the same metric is one more, and not the one that is there: all others are named.
        return PlanChange(charges=[*_as_they_are(plan.current.charges), structs.replace(draft, id=None)])

    return edit


def changing_charge(name: str, draft: ChargeDraft | None) -> Edit:
    """The charge with what the draft says, and the rest as it is; without a draft it is removed."""

    def edit(plan: Plan) -> PlanChange:
        return _with_charge(plan, get_charge(plan.current, name), draft)

    return edit


def adding_filter(name: str, draft: ChargeFilterDraft) -> Edit:
    """Another filter of a charge; InvalidInput when there is one for the same values."""

    def edit(plan: Plan) -> PlanChange:
        charge = get_charge(plan.current, name)
        filters = [ChargeFilterDraft(id=one.id) for one in charge.filters]
        return _with_charge(plan, charge, ChargeDraft(filters=[*filters, structs.replace(draft, id=None)]))

    return edit


def changing_filter(name: str, filter_id: str, draft: ChargeFilterDraft | None) -> Edit:
    """The filter with another price or name; it keeps its values. Without a draft it is removed."""

    def edit(plan: Plan) -> PlanChange:
        charge = get_charge(plan.current, name)
        changed = get_filter(charge, filter_id)
        filters: list[ChargeFilterDraft] = []
        for one in charge.filters:
            if one is not changed:
                filters.append(ChargeFilterDraft(id=one.id))
            elif draft is not None:
                if draft.values and {k: tuple(v) for k, v in draft.values.items()} != one.values:
                    raise InvalidInput("a filter keeps its values", details={"values": ["value_is_fixed"]})
                filters.append(structs.replace(draft, id=one.id))
        return _with_charge(plan, charge, ChargeDraft(filters=filters))

    return edit


def adding_fixed_charge(draft: FixedChargeDraft) -> Edit:
    """Another fixed charge, the last of the list."""

    def edit(plan: Plan) -> PlanChange:
        kept = [FixedChargeDraft(id=one.id) for one in plan.current.fixed_charges]
        return PlanChange(fixed_charges=[*kept, structs.replace(draft, id=None)])

    return edit


def changing_fixed_charge(name: str, draft: FixedChargeDraft | None) -> Edit:
    """The fixed charge with what the draft says; without a draft it is removed."""

    def edit(plan: Plan) -> PlanChange:
        changed = get_fixed_charge(plan.current, name)
        drafts: list[FixedChargeDraft] = []
        for one in plan.current.fixed_charges:
            if one is not changed:
                drafts.append(FixedChargeDraft(id=one.id))
            elif draft is not None:
                drafts.append(structs.replace(draft, id=one.id))
        return PlanChange(fixed_charges=drafts)

    return edit


def _with_charge(plan: Plan, changed: Charge, draft: ChargeDraft | None) -> PlanChange:
    charges: list[ChargeDraft] = []
    for one in plan.current.charges:
        if one is not changed:
            charges.append(ChargeDraft(id=one.id))
        elif draft is not None:
            charges.append(structs.replace(draft, id=one.id))
    return PlanChange(charges=charges)


def _as_they_are(charges: Sequence[Charge]) -> list[ChargeDraft]:
    return [ChargeDraft(id=one.id) for one in charges]

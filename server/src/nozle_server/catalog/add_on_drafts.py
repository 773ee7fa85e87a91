"""What a caller writes to make or change an add-on; the names are Lago's."""

import msgspec
from msgspec import UNSET, UnsetType


class AddOnDraft(msgspec.Struct, kw_only=True):
    """`POST /add_ons`. `amount_cents` in minor units of `amount_currency`."""

    code: str
    name: str
    amount_cents: int
    amount_currency: str
    invoice_display_name: str | None = None
    description: str | None = None
    tax_codes: list[str] = []


class AddOnChanges(msgspec.Struct, kw_only=True):
    """`PUT /add_ons/{code}`: what is left out stays."""

    code: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    amount_cents: int | UnsetType = UNSET
    amount_currency: str | UnsetType = UNSET
    invoice_display_name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    tax_codes: list[str] | UnsetType = UNSET

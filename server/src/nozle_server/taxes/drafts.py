"""What a caller writes to make or change a tax; the names are Lago's."""

import msgspec
from msgspec import UNSET, UnsetType

from nozle_server.core.fields import Amount


class TaxDraft(msgspec.Struct, kw_only=True):
    """`POST /taxes`. `rate` in percent."""

    code: str
    name: str
    rate: Amount
    description: str | None = None
    applied_to_organization: bool = False


class TaxChanges(msgspec.Struct, kw_only=True):
    """`PUT /taxes/{code}`: what is left out stays."""

    code: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    rate: Amount | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    applied_to_organization: bool | UnsetType = UNSET

"""What a merchant notes on an invoice: up to five named texts, as Lago."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nozle_server.core.errors import InvalidInput, NotFound
from nozle_server.core.ids import new_id
from nozle_server.core.json import instant_text
from nozle_server.core.text import is_clean

MAX_ENTRIES = 5
MAX_KEY_LENGTH = 20
MAX_VALUE_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Entry:
    """`id` names an entry that there is already."""

    id: str | None
    key: str
    value: str


def merged(
    before: Sequence[Mapping[str, Any]], wanted: Sequence[Entry], now: datetime
) -> tuple[Mapping[str, Any], ...]:
    """The entries as they shall be: those named by id changed, others new, and what is not wanted any more gone.

    NotFound `metadata_not_found`; InvalidInput `invalid_count`, `value_is_too_long`, `value_already_exist`.
    """
    known = {entry["id"]: entry for entry in before}
    if len(wanted) > MAX_ENTRIES:
        raise _invalid("invalid_count", "there are more than 5 entries")
    if len({entry.key for entry in wanted}) < len(wanted):
        raise _invalid("value_already_exist", "a key is given twice")
    entries = []
    for entry in wanted:
        if not 0 < len(entry.key) <= MAX_KEY_LENGTH or len(entry.value) > MAX_VALUE_LENGTH:
            raise _invalid("value_is_too_long", "a key or a value does not fit")
        if not is_clean(entry.key) or not is_clean(entry.value):
            raise _invalid("value_is_invalid", "there are control characters")
        if entry.id is not None and entry.id not in known:
            raise NotFound("there is no such metadata", code="metadata_not_found")
        stored = known[entry.id] if entry.id else {"id": str(new_id()), "created_at": instant_text(now)}
        entries.append({**stored, "key": entry.key, "value": entry.value})
    return tuple(entries)


def _invalid(code: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, details={"metadata": [code]})

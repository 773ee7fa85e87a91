"""What is announced of an account: each entry as a fact with the entry's id, and what was noticed meanwhile."""

from nozle_server.credits.book import Changes
from nozle_server.credits.model import Account, EntryType
from nozle_server.infra.change_bus import Change, Publication

ANNOUNCED = {
    EntryType.GRANT: "granted",
    EntryType.DEDUCT: "deducted",
    EntryType.EXPIRE: "expired",
    EntryType.VOID: "voided",
    EntryType.HOLD: "held",
    EntryType.RELEASE: "released",
    EntryType.REFUND: "refunded",
    EntryType.ADJUSTMENT: "adjusted",
    EntryType.TRANSFER: "transferred",
}
"""The last part of the fact's kind; the first is the account's."""


def publications(account: Account, changes: Changes) -> list[Publication]:
    """What an account's entries are announced as: each fact has the id of its entry."""
    subject = str(account.customer_id)
    return [
        Publication(
            entry.id,
            Change(
                account.org_id,
                f"{account.kind}.{ANNOUNCED[entry.type]}",
                subject,
                {"entry_id": entry.id, "amount": entry.amount, "balance_after": entry.balance_after},
            ),
        )
        for entry in changes.entries
    ] + [
        Publication(fact.id, Change(account.org_id, fact.kind, subject, fact.payload))
        for fact in changes.facts
    ]

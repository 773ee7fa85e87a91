"""The few kinds of exception that stop a use case.

A refusal the caller expects is a value (`Decision(allowed=False, ...)`); these are for what the use case cannot go on
with. Each carries a stable `code` for machines and a sentence that is safe to show: no input echoed, no secrets.
`api/errors.py` is the one table from kind to HTTP status.
"""

from collections.abc import Mapping, Sequence


class NozleError(Exception):
    """Base of every error that an API caller may see.

    `code` is stable snake_case; `message` a sentence; `details` maps a field to the codes that say what is wrong with
    it (the shape of Core's `error_details`).
    """

    default_code = "error"

    def __init__(
        self, message: str, *, code: str | None = None, details: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details = {field: list(codes) for field, codes in (details or {}).items()}


class InvalidInput(NozleError):
    """The request is malformed: a missing field, a wrong type, a bad range."""

    default_code = "invalid_request"


class NotAuthenticated(NozleError):
    """No key, or one we do not know."""

    default_code = "invalid_api_key"


class NotAllowed(NozleError):
    """The key is known, but has no right to do this."""

    default_code = "forbidden"


class NotFound(NozleError):
    """The named object does not exist in the caller's organization."""

    default_code = "not_found"


class Conflict(NozleError):
    """The request contradicts what is stored: a name taken, a key used for something else."""

    default_code = "conflict"


class RuleBroken(NozleError):
    """The request is well formed, but a business rule forbids it."""

    default_code = "rule_broken"


class NotPossible(RuleBroken):
    """The object's state forbids it, whatever the request says: Core answers 405 (Lago: not allowed)."""

    default_code = "not_possible"


class Unavailable(NozleError):
    """A dependency (the database, a provider) cannot be had now; retrying later is safe."""

    default_code = "unavailable"


def not_supported(field: str) -> RuleBroken:
    """For a field of Core's that would be without effect here: refused, rather than kept in silence."""
    return RuleBroken(f"{field} is not supported", code="not_supported", details={field: ["not_supported"]})

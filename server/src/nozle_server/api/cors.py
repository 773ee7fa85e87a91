"""Cross-origin rules (contract Decision 10): any origin unless some are named, never with cookies.

An origin opens nothing by itself: the key decides. So browsers may call from everywhere by default.
"""

from collections.abc import Mapping, Sequence

_METHODS = "GET, POST, PUT, DELETE"
_REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Nozle-Customer-Session"
_RESPONSE_HEADERS = "X-Request-Id, Retry-After"
_PREFLIGHT_MAX_AGE_S = "7200"


class Cors:
    """Which headers an answer to a browser carries."""

    def __init__(self, allowed_origins: Sequence[str]) -> None:
        self._allow_any = "*" in allowed_origins
        self._allowed = frozenset(allowed_origins)

    @property
    def allows_any(self) -> bool:
        return self._allow_any

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """For every answer; `origin` is the request's Origin header."""
        if self._allow_any:
            if origin is None:
                return {}
            return {"access-control-allow-origin": "*", "access-control-expose-headers": _RESPONSE_HEADERS}
        # A cache must not serve one origin the answer made for another.
        if origin is None or origin not in self._allowed:
            return {"vary": "Origin"}
        return {
            "vary": "Origin",
            "access-control-allow-origin": origin,
            "access-control-expose-headers": _RESPONSE_HEADERS,
        }

    def preflight_headers(self, origin: str | None) -> Mapping[str, str]:
        """What an OPTIONS request is told beside `headers`."""
        if origin is None or not (self._allow_any or origin in self._allowed):
            return {}
        return {
            "access-control-allow-methods": _METHODS,
            "access-control-allow-headers": _REQUEST_HEADERS,
            "access-control-max-age": _PREFLIGHT_MAX_AGE_S,
        }

"""How much a test does. `make test` runs a little; `make chaos N=1000` what the catalogue asks for."""

import os


def scaled(small: int, *, at_1000: int) -> int:
    """`small` in `make test`; with N given, as many as `at_1000` is for N=1000, and never fewer than `small`."""
    n = os.environ.get("N")
    return max(small, int(n) * at_1000 // 1000) if n else small


def is_large() -> bool:
    return bool(os.environ.get("N"))

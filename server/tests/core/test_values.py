"""A changed value: as `dataclasses.replace` makes it."""

import dataclasses
from dataclasses import dataclass

import pytest

from nozle_server.core.values import replace


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    start: int
    end: int
    name: str = "span"

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError("a span is not empty")


def test_a_changed_value_keeps_the_rest_and_leaves_the_old_one_alone() -> None:
    span = _Span(start=1, end=5, name="old")
    assert replace(span, name="new", end=3) == dataclasses.replace(span, name="new", end=3)
    assert replace(span) == span == _Span(start=1, end=5, name="old")


def test_a_changed_value_is_checked_like_a_new_one() -> None:
    with pytest.raises(ValueError, match="not empty"):
        replace(_Span(start=1, end=5), end=1)
    with pytest.raises(TypeError):
        replace(_Span(start=1, end=5), colour="red")

"""Who stands under whom: pure rules about parents."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)

MAX_DEPTH = 8
"""So many levels of entities at most: each one is looked at with every deduction."""


def depths(parents: Mapping[Node, Node | None]) -> dict[Node, int]:
    """How deep each node lies: 1 without a parent, one more than its parent otherwise. What stands in a circle, or
    under one, has no depth and is left out. Every parent is a node itself.

    >>> depths({"team": None, "user": "team", "a": "b", "b": "a"})
    {'team': 1, 'user': 2}
    """
    known: dict[Node, int] = {}
    for node in parents:
        path: dict[Node, None] = {}  # a set that remembers the order
        at: Node | None = node
        while at is not None and at not in known and at not in path:
            path[at] = None
            at = parents[at]
        if at is not None and at not in known:
            continue  # came back to where it was
        depth = known[at] if at is not None else 0
        for one in reversed(path):
            depth += 1
            known[one] = depth
    return known

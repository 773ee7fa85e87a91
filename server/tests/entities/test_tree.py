"""Depth and circles: laws that hold for any parents at all."""

from hypothesis import given
from hypothesis import strategies as st

from nozle_server.entities.tree import depths

NODES = range(12)
any_parents = st.fixed_dictionaries({node: st.none() | st.sampled_from(NODES) for node in NODES})


@st.composite
def trees(draw: st.DrawFn) -> dict[int, int | None]:
    """Each node stands below one that comes before it, or at the top; told in any order."""
    parents = {node: draw(st.none() | st.sampled_from(range(node)) if node else st.none()) for node in NODES}
    return {node: parents[node] for node in draw(st.permutations(NODES))}


def walk(parents: dict[int, int | None], node: int) -> int | None:
    """The depth as one counts it by hand; None when the walk does not end."""
    steps, at = 0, parents[node]
    while at is not None and steps <= len(parents):
        steps, at = steps + 1, parents[at]
    return None if at is not None else steps + 1


@given(any_parents)
def test_depth_is_the_length_of_the_way_up(parents: dict[int, int | None]) -> None:
    """Whatever stands on a circle or below one has none."""
    ways = {node: walk(parents, node) for node in parents}
    assert depths(parents) == {node: depth for node, depth in ways.items() if depth is not None}


@given(trees())
def test_a_tree_has_no_circle(parents: dict[int, int | None]) -> None:
    found = depths(parents)
    assert found.keys() == parents.keys()
    assert all(found[node] == 1 + (found[up] if up is not None else 0) for node, up in parents.items())


@given(trees(), st.sampled_from(NODES), st.sampled_from(NODES))
def test_moving_makes_a_circle_exactly_when_it_goes_below_itself(
    parents: dict[int, int | None], node: int, to: int
) -> None:
    below, at = False, to
    while not below and at is not None:
        below, at = at == node, parents[at]  # type: ignore[assignment]
    moved = {**parents, node: to}
    assert (len(depths(moved)) < len(moved)) == below


@given(trees(), st.sampled_from(NODES))
def test_moving_to_the_top_deepens_nothing(parents: dict[int, int | None], node: int) -> None:
    before, after = depths(parents), depths({**parents, node: None})
    assert all(after[one] <= before[one] for one in parents)


def test_a_long_chain_needs_no_deep_stack() -> None:
    parents = {node: node + 1 if node < 50_000 else None for node in range(50_001)}
    assert depths(parents)[0] == 50_001

"""The built-in trace is the same everywhere, and makes every kind of outcome."""

from nozle_demo.generator import generate_text, generate_trace

# A change of this hash is a change of the trace that everyone's journal is named by.
SHA256 = "63e3a7b3551f"


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert generate_trace().key == SHA256
    assert generate_text(1, 50) == generate_text(1, 50) != generate_text(2, 50)


def test_has_the_shape_of_an_hour_of_traffic() -> None:
    trace = generate_trace()
    assert len(trace.requests) == 3_000
    assert (
        trace.requests[-1].occurred_at - trace.requests[0].occurred_at
        < trace.requests[0].occurred_at.resolution * 3.6e9
    )
    assert 300 < len(list(trace.seconds())) < 500

"""A trace is read to the last digit, and what is wrong with it is named by line."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from nozle_demo.errors import UsageError
from nozle_demo.trace import parse_trace, read_trace

HEADER = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"


def test_reads_crlf_without_a_final_line_end_and_cuts_to_microseconds() -> None:
    trace = parse_trace(
        "t", HEADER + b"2023-11-16 18:15:46.6805907,374,44\r\n2023-11-16 18:15:46.9999999,396,109"
    )
    first, second = trace.requests
    assert (first.row, first.input_tokens, first.output_tokens, first.tokens) == (1, 374, 44, 418)
    assert first.occurred_at == datetime(2023, 11, 16, 18, 15, 46, 680590, tzinfo=UTC)
    assert second.occurred_at.microsecond == 999999
    assert [(second, len(rows)) for second, rows in trace.seconds()] == [(first.second, 2)]


@pytest.mark.parametrize(
    "timestamp", ["2024-05-10 00:00:00", "2024-05-10T00:00:00.0Z", "2024-05-10 00:00:00.009930+00:00"]
)
def test_reads_neighbouring_forms_of_an_instant(timestamp: str) -> None:
    assert parse_trace("t", HEADER + f"{timestamp},1,2\n".encode()).first_second.year == 2024


def test_orders_by_time_and_keeps_row_numbers() -> None:
    rows = b"2024-01-01 00:00:02,1,1\n2024-01-01 00:00:01,2,2\n2024-01-01 00:00:01,3,3\n"
    assert [request.row for request in parse_trace("t", HEADER + rows).requests] == [2, 3, 1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"2023-11-16 18:15:46.68,374", "line 3: 2 fields instead of 3"),
        (b"2023-11-16 18:15:46.68,374,-1", "line 3: GeneratedTokens '-1'"),
        (b"2023-11-16 18:15:46.68,1.5,1", "line 3: ContextTokens '1.5'"),
        (b"2023-11-16 18:15:46.68,1_0,1", "line 3: ContextTokens '1_0'"),
        ("2023-11-16 18:15:46.68,\u0661,1".encode(), "line 3: ContextTokens"),
        (b"2023-02-30 18:15:46.68,1,1", "line 3: TIMESTAMP '2023-02-30 18:15:46.68' is not an instant"),
        (b"16/11/2023,1,1", "line 3: TIMESTAMP '16/11/2023' is not of the form"),
        (b"", "line 3: 1 fields"),
    ],
)
def test_names_a_bad_row_by_its_line(row: bytes, said: str) -> None:
    good = b"2023-11-16 18:15:46.68,1,1\r\n"
    with pytest.raises(UsageError, match="bad rows") as refusal:
        parse_trace("t", HEADER + good + row + b"\r\n" + good)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_names_five_bad_rows_and_counts_the_rest() -> None:
    with pytest.raises(UsageError, match=r"line 6: .*\(and 2 more\)"):
        parse_trace("t", HEADER + b"x,1,1\n" * 7)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "does not begin with"),
        (b"a,b,c\n1,2,3\n", "does not begin with"),
        (HEADER, "holds no requests"),
        (b"\xff\xfe", "not UTF-8"),
        (HEADER + b"2024-01-01 00:00:00,1,1\n2024-02-01 00:00:00,1,1\n", "spans 31 days"),
    ],
)
def test_refuses_what_is_no_trace(data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_trace("t", data)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the trace .*No such file"):
        read_trace(tmp_path / "nowhere.csv")

"""The journal survives being torn, and refuses to be another's."""

from pathlib import Path

import pytest
from builders import a_trace

from nozle_demo.errors import UsageError
from nozle_demo.journal import Journal, Outcome

TRACE = a_trace(12)
OUTCOMES = [
    Outcome(1, True, "unlimited", True, "accepted"),
    Outcome(2, False, "limit_exceeded"),
    Outcome(3, True, "within_limit", False, "late"),
]


def write(directory: Path, outcomes: list[Outcome]) -> Path:
    with Journal(directory, TRACE) as journal:
        for outcome in outcomes:
            journal.add(outcome)
    return journal.path


def read(directory: Path) -> list[Outcome]:
    with Journal(directory, TRACE) as journal:
        return list(journal.outcomes.values())


def test_gives_back_what_was_added_and_is_named_by_the_trace(tmp_path: Path) -> None:
    assert write(tmp_path, OUTCOMES).name == f"journal-{TRACE.key}.jsonl"
    assert read(tmp_path) == OUTCOMES
    write(tmp_path, [Outcome(4, False, "limit_exceeded")])
    assert len(read(tmp_path)) == 4


def test_every_torn_end_leaves_the_whole_lines_and_can_be_written_on(tmp_path: Path) -> None:
    path = write(tmp_path, OUTCOMES)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = read(tmp_path)
        assert kept == OUTCOMES[: len(kept)]
        write(tmp_path, OUTCOMES[len(kept) :])
        assert path.read_bytes() == whole


def test_what_was_added_is_not_on_disk_before_a_flush(tmp_path: Path) -> None:
    journal = Journal(tmp_path, TRACE)
    journal.add(OUTCOMES[0])
    assert journal.path.read_bytes().count(b"\n") == 1
    journal.flush()
    assert journal.path.read_bytes().count(b"\n") == 2
    journal.close()


@pytest.mark.parametrize("line", ["nonsense", '{"row":"1"}', '{"row":99,"allowed":true,"reason":"x"}', "[]"])
def test_names_a_damaged_line(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, OUTCOMES)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UsageError, match="damaged at line 5"):
        read(tmp_path)


def test_refuses_the_journal_of_another_trace(tmp_path: Path) -> None:
    path = write(tmp_path, OUTCOMES)
    path.write_bytes(path.read_bytes().replace(TRACE.sha256.encode(), b"0" * 64))
    with pytest.raises(UsageError, match="another trace"):
        read(tmp_path)

"""The folder of the workers' numbers: each server's own, and none is left for long."""

import tempfile
from pathlib import Path

import pytest

from nozle_server.serving.shared_metrics import PREFIX, metrics_folder


def test_folders_of_servers_that_were_killed_are_removed_and_others_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with metrics_folder() as running:
        (left := tmp_path / f"{PREFIX}left").mkdir()
        (left / "counter_1.db").write_bytes(b"")
        (others := tmp_path / "others").mkdir()
        with metrics_folder() as own:
            assert not left.exists()
            assert others.exists()
            assert running.exists()
            assert own != running
        assert not own.exists()
    assert not running.exists()

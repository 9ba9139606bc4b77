"""Lines of JSON that several processes append, on disks that fill up."""

import json
import os
from pathlib import Path

import pytest

from ausl_dist.json_lines import append_json_line, read_json_lines, read_log_lines


def test_a_short_write_is_told_and_spoils_no_line_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    append_json_line(path, {"n": 1})
    write = os.write
    with monkeypatch.context() as full_disk:
        full_disk.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        with pytest.raises(OSError, match="only 5 of 9 bytes"):
            append_json_line(path, {"n": 2})
    append_json_line(path, {"n": 3})
    assert list(read_log_lines(path)) == [{"n": 1}, {"n": 3}]


def test_state_is_never_read_past_a_damaged_line(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text('{"n": 1}\n{"n":\n{"n": 3}\n')
    with pytest.raises(ValueError, match="line 2 is not valid JSON"):
        list(read_json_lines(path))


def test_a_line_that_its_writer_never_ended_was_never_written(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text('{"n": 1}\n{"n": 2')
    assert list(read_json_lines(path)) == [{"n": 1}]
    append_json_line(path, {"n": 3})
    assert [json.loads(line) for line in path.read_text().splitlines()[::2]] == [
        {"n": 1},
        {"n": 3},
    ]

"""The record must say of which code a run is, also where it runs from a copy without git."""

import subprocess
from pathlib import Path

import pytest

from ausl_dist.provenance import commit_of, keep_commit, note_command, noted_command


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "inside").mkdir(parents=True)
    (folder / "code.py").write_text("one = 1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_commit_and_changes_are_told_also_by_a_copy(checkout: Path, tmp_path: Path) -> None:
    clean = commit_of(checkout)
    assert clean is not None
    assert len(clean["id"]) == 40
    assert clean["dirty"] is False
    (checkout / "code.py").write_text("one = 2\n")
    assert commit_of(checkout) == clean | {"dirty": True}
    copy = tmp_path / "copy"
    copy.mkdir()
    assert commit_of(copy) is None
    keep_commit(copy, checkout)
    assert commit_of(copy) == clean | {"dirty": True}


def test_a_package_inside_of_another_repository_is_not_of_its_commits(checkout: Path) -> None:
    assert commit_of(checkout / "inside") is None


def test_what_was_typed_reaches_the_processes_that_are_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AUSL_COMMAND", raising=False)
    assert noted_command() is None
    monkeypatch.setenv("AUSL_COMMAND", "")  # put back afterwards
    note_command(["python", "-m", "launch", "run", "name=my run"])
    assert noted_command() == "python -m launch run 'name=my run'"

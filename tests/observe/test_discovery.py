"""Prometheus must find every live rank, see killed ones as down, and not collect the dead for
ever; others' files are not ours.
"""

import json
import os
from pathlib import Path

from ausl_dist.observe.discovery import (
    remove_older_attempts,
    remove_target,
    sweep,
    target_path,
    write_target,
)
from ausl_dist.observe.state import RankIdentity


def identity(rank: int = 0, attempt: int = 1, run: str = "demo") -> RankIdentity:
    return RankIdentity(run=run, rank=rank, world_size=4, node="node7", attempt=attempt)


def announce(
    folder: Path,
    who: RankIdentity,
    run_folder: Path = Path("/runs/demo"),
    target: str = "node7:9400",
) -> Path:
    path = target_path(folder, run_folder, who)
    write_target(path, who, target, "http")
    return path


def make_old(path: Path, seconds: float) -> None:
    stat = path.stat()
    os.utime(path, (stat.st_atime, stat.st_mtime - seconds))


def test_a_target_names_run_rank_node_and_attempt(tmp_path: Path) -> None:
    (group,) = json.loads(announce(tmp_path, identity(rank=3, attempt=3)).read_text())
    assert group["targets"] == ["node7:9400"]
    assert group["labels"] == {
        "job": "ausl",
        "__scheme__": "http",
        "run": "demo",
        "rank": "3",
        "node": "node7",
        "attempt": "3",
    }


def test_two_runs_of_one_name_in_a_shared_folder_do_not_overwrite_each_other(
    tmp_path: Path,
) -> None:
    announce(tmp_path, identity(), run_folder=Path("/runs/of-ann/demo"))
    announce(tmp_path, identity(), run_folder=Path("/runs/of-ben/demo"))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    path = announce(tmp_path / "targets", identity(run="../../etc/passwd"))
    assert path.parent == tmp_path / "targets"


def test_a_restart_replaces_its_target_and_clears_ranks_that_are_no_more(
    tmp_path: Path,
) -> None:
    for rank in range(4):
        announce(tmp_path, identity(rank=rank, attempt=1))
    announce(tmp_path, identity(rank=0, attempt=2), target="node9:9400")
    remove_older_attempts(tmp_path, Path("/runs/demo"), identity(attempt=2))
    (left,) = tmp_path.iterdir()
    assert json.loads(left.read_text())[0]["targets"] == ["node9:9400"]


def test_an_old_attempt_that_ends_late_leaves_its_successors_target(tmp_path: Path) -> None:
    path = announce(tmp_path, identity(attempt=2))
    remove_target(path, identity(attempt=1))
    assert path.exists()
    remove_target(path, identity(attempt=2))
    assert not path.exists()
    remove_target(path, identity(attempt=2))  # and again, after somebody swept it


def test_stale_targets_are_swept_and_nothing_else(tmp_path: Path) -> None:
    stale, live = announce(tmp_path, identity(rank=0)), announce(tmp_path, identity(rank=1))
    foreign = tmp_path / "node-exporters.json"
    lookalike = tmp_path / "ausl-notes-00000.json"
    foreign.write_text('[{"targets": ["a:1"], "labels": {}}]')
    lookalike.write_text("not JSON")
    for path in (stale, foreign, lookalike):
        make_old(path, 7200)
    assert sweep(tmp_path, older_than_seconds=3600) == [stale]
    assert sorted(tmp_path.iterdir()) == sorted([live, foreign, lookalike])

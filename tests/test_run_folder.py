"""What lies in a run folder is found by one set of rules, and damage is never taken for
content.
"""

import json
import logging
import shutil
from pathlib import Path

import pytest

from ausl_dist.release.verify import write_sums
from ausl_dist.run_folder import (
    check_weights,
    checked_checkpoint,
    checkpoint_folder,
    complete_checkpoints,
    damage,
    main_scores,
    manifest_text,
    newest_whole_checkpoint,
    read_scores,
    step_of,
    steps_by_score,
)

WEIGHTS = "backbone.safetensors"


def make_checkpoint(run: Path, step: int, name: str = "state.json") -> Path:
    folder = checkpoint_folder(run, step)
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"{}")
    sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    files = {name: {"bytes": 2, "sha256": sha256}}
    (folder / "manifest.json").write_text(manifest_text(step, files))
    return folder


def test_checkpoints_are_ordered_by_step_however_many_digits_it_has(tmp_path: Path) -> None:
    steps = [99_999_999, 100_000_000, 7]
    for step in steps:
        make_checkpoint(tmp_path, step)
    assert [step_of(folder) for folder in complete_checkpoints(tmp_path)] == sorted(steps)
    newest = newest_whole_checkpoint(tmp_path)
    assert newest is not None
    assert step_of(newest) == 100_000_000


def test_a_folder_that_is_no_checkpoint_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not named like a checkpoint"):
        step_of(tmp_path / "step-12")


def test_one_flipped_bit_makes_a_named_checkpoint_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 5)
    assert checked_checkpoint(folder) == folder
    (folder / "state.json").write_bytes(b"{|")
    with pytest.raises(ValueError, match=r"state\.json has another SHA-256"):
        checked_checkpoint(folder)


def test_weights_are_checked_by_whatever_name_they_are_reached(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 5, WEIGHTS)
    renamed = tmp_path / "best"
    shutil.copytree(folder, renamed)
    (tmp_path / "newest").symlink_to(folder)
    places = [folder / WEIGHTS, renamed / WEIGHTS, tmp_path / "newest" / WEIGHTS]
    for path in places:
        check_weights(path)
    for damaged in (folder, renamed):
        (damaged / WEIGHTS).write_bytes(b"{|")
    for path in places:
        with pytest.raises(ValueError, match="damaged checkpoint"):
            check_weights(path)


def test_weights_of_a_bundle_are_checked_and_those_of_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    check_weights(path)
    write_sums(tmp_path)
    check_weights(path)
    path.write_bytes(b"weighty")
    with pytest.raises(ValueError, match="SHA256SUMS"):
        check_weights(path)


@pytest.mark.parametrize(
    "files",
    [
        {"../../other": {"bytes": 2, "sha256": "0"}},
        {"/etc/passwd": {"bytes": 2, "sha256": "0"}},
        {"a": {"bytes": 1 << 70, "sha256": "0"}},
        {"a": {"bytes": True, "sha256": "0"}},
        {"a": None},
        {"": {"bytes": 2, "sha256": "0"}},
        ["a"],
        7,
    ],
    ids=str,
)
def test_a_crafted_manifest_leads_nowhere(tmp_path: Path, files: object) -> None:
    folder = make_checkpoint(tmp_path, 5)
    text = json.dumps({"format": 1, "step": 5, "files": files})
    (folder / "manifest.json").write_text(text)
    problem = damage(folder)
    assert problem is not None
    assert problem.startswith("manifest.json cannot be read")


def test_a_damaged_line_of_scores_is_passed_over_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "online.jsonl").write_text(
        '{"step": 7, "probe_icc": 0.2}\n{"step": 14, "pro\n[1]\n{"step": 21, "probe_icc": NaN}\n'
        '{"step": "x", "probe_icc": 1.0}\n{"step": 28, "probe_icc": 0.1}\n{"step": 35, "probe'
    )
    with caplog.at_level(logging.WARNING):
        assert main_scores(tmp_path) == ("probe_icc", {7: 0.2, 28: 0.1})
    assert "2 damaged lines" in caplog.text
    assert read_scores(tmp_path)[21] == {}
    assert steps_by_score(tmp_path, {28, 35}) == [28]


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1e999", "NaN", "-1e999", "[]", "null"])
def test_a_score_that_is_no_number_of_this_world_is_none(tmp_path: Path, value: str) -> None:
    line = f'{{"step": 7, "probe_f1": 0.5, "probe_icc": {value}}}\n'
    (tmp_path / "online.jsonl").write_text(line)
    assert read_scores(tmp_path) == {7: {"probe_f1": 0.5}}

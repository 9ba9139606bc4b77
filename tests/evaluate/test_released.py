"""The command of the demo: a bundle and a labelled corpus in, a table and a report out."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ausl_dist.evaluate.compare import CompareSettings
from ausl_dist.evaluate.released import compare_bundle
from ausl_dist.evaluate.reproduce import reproduce
from ausl_dist.files import sha256_of
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.verify import write_sums
from tests.support.corpora import make_corpus
from tests.support.run_folders import checkpoint_of, make_run


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("released")
    write_bundle(make_run(folder), folder / "bundle", checkpoint=checkpoint_of(folder / "run"))
    return folder / "bundle"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(
        make_corpus(
            tmp_path_factory.mktemp("labelled"), clips=16, frames=12, size=64, action_units=True
        )
    )


@pytest.fixture(scope="module")
def evaluated(bundle: Path, corpus: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an evaluation in it, both made by the commands that a user types."""
    folder = tmp_path_factory.mktemp("evaluated")
    command = [
        sys.executable,
        "tools/evaluate.py",
        "compare",
        str(bundle),
        "--corpus",
        corpus,
        "--out",
        str(folder / "world"),
    ]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("pretrained", "random weights", "constant"))
    run = bundle.parent / "run"
    write_bundle(
        run,
        folder / "bundle",
        checkpoint=checkpoint_of(run),
        evaluations={"world": folder / "world"},
    )
    return folder / "bundle"


def test_the_report_of_the_command_is_taken_into_the_release(evaluated: Path) -> None:
    report = json.loads((evaluated / "evaluation" / "world" / "report.json").read_text())
    assert report["backbone"]["weights_sha256"] == sha256_of(evaluated / "model.safetensors")
    assert "| random weights |" in (evaluated / "README.md").read_text()
    assert "<svg" in (evaluated / "evaluation" / "world" / "report.html").read_text()


def test_recorded_scores_are_reproduced_and_false_ones_are_noticed(
    evaluated: Path, tmp_path: Path
) -> None:
    assert all(check.holds for check in reproduce(evaluated))
    copy = shutil.copytree(evaluated, tmp_path / "copy")
    report = json.loads((copy / "evaluation" / "world" / "report.json").read_text())
    report["rows"][0]["pooled"]["icc"]["mean"] += 0.05
    (copy / "evaluation" / "world" / "report.json").write_text(json.dumps(report))
    write_sums(copy)
    first, *others = (check.holds for check in reproduce(copy))
    assert not first
    assert len(others) == 4
    assert all(others)


def test_another_corpus_is_not_taken_for_the_recorded_one(
    evaluated: Path, tmp_path: Path
) -> None:
    other = make_corpus(tmp_path, clips=8, frames=12, size=64, seed=1, action_units=True)
    with pytest.raises(ValueError, match="not the recorded"):
        list(reproduce(evaluated, data={"world": str(other)}))
    with pytest.raises(ValueError, match="records no evaluation"):
        list(reproduce(evaluated, data={"wrold": str(other)}))


def test_the_same_evaluation_gives_the_same_scores(bundle: Path, corpus: str) -> None:
    settings = CompareSettings(task="occurrence", resamples=20)
    first, second = (compare_bundle(bundle, corpus, settings, stride=2)[0] for _ in range(2))
    for a, b in zip(first.rows, second.rows, strict=True):
        assert {name: score.to_json() for name, score in a.scores.items()} == {
            name: score.to_json() for name, score in b.scores.items()
        }


def test_a_corpus_cropped_otherwise_is_refused(
    bundle: Path, corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ausl_dist.evaluate import released

    loaded = released.load_backbone(bundle)
    other = dataclasses.replace(loaded.info.preprocessing, alignment="ffhq")
    loaded.info = dataclasses.replace(loaded.info, preprocessing=other)
    monkeypatch.setattr(released, "load_backbone", lambda _: loaded)
    with pytest.raises(ValueError, match="trained on ffhq"):
        compare_bundle(bundle, corpus)

"""A head that a run trained is scored as it is, over time, and never on people whom the run
saw.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ausl_dist.evaluate.folds.sealed import LeakError
from ausl_dist.evaluate.heads import compare_heads, open_head
from ausl_dist.release.bundle import write_bundle
from ausl_dist.stream.scan import scan
from tests.support.corpora import make_corpus
from tests.support.run_folders import checkpoint_of, make_run

HEAD = {"units": [1, 12], "task": "intensity", "context": "gru", "width": 8, "frames": 4}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("others")
    return str(make_corpus(folder, clips=16, frames=12, size=64, action_units=True, seed=5))


def trained_on(corpus: Path | str, folder: Path, **head: object) -> Path:
    """A run whose corpus is this one."""
    run = make_run(folder, action_units={**HEAD, "stride": 2, **head})
    config = yaml.safe_load((run / "config.yaml").read_text())
    statement = folder / "corpus" / "corpus.json"
    (Path(corpus) / "corpus.json").write_text(statement.read_text())
    (name,) = config["data"]["corpora"]
    config["data"]["corpora"][name]["url"] = str(corpus)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    own = make_corpus(folder / "own", clips=4, first_clip=100, frames=12, size=32)
    return trained_on(own, folder)


def test_run_and_bundle_give_the_scores_of_the_head_over_time(
    run: Path, corpus: str, tmp_path: Path
) -> None:
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    heads = [open_head(run), open_head(tmp_path / "bundle")]
    assert heads[0].sees == heads[1].sees
    clip = next(scan(corpus, image_size=heads[0].sees[0], view=heads[0].sees[1]))
    scores = [head.scores(clip) for head in heads]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)
    # the last frame's score depends on the frames before it
    alone = heads[0].released.features(clip.frames[-1:]).action_units
    assert alone is not None
    assert not np.array_equal(scores[0][-1], alone.values[0].numpy())


def test_the_table_has_every_head_beside_the_constant_with_icc_and_mae_of_each_unit(
    run: Path, corpus: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tools.evaluate", "heads", f"a={run}", f"b={run}"]
    done = subprocess.run(
        [*command, "--corpus", corpus, "--out", str(tmp_path), "--stride", "3"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["a", "b", "constant", "guess"]
    assert report["action_units"] == [1, 12]
    assert len(report["folds"]) == 4
    for row in report["rows"]:
        assert all(len(row["pooled"][score]["per_unit"]) == 2 for score in ("icc", "mae"))
    assert report["rows"][0]["pooled"] == report["rows"][1]["pooled"]


def test_people_whom_the_run_saw_are_not_tested_on(corpus: str, tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="test subjects were used before the test"):
        compare_heads({"own": trained_on(corpus, tmp_path)}, corpus)


def test_a_run_without_a_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no action-unit head"):
        open_head(make_run(tmp_path))

"""Scores taken beside a run rank its checkpoints: they must be of unseen people, tell good
features from none, and be found again.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ausl_dist.evaluate.online import Neighbours, evaluate_checkpoint
from ausl_dist.json_lines import append_json_line
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.run_folder import ONLINE_FILE, read_scores, steps_by_score
from ausl_dist.train.checkpoint import steps_to_keep
from ausl_dist.train.settings import CheckpointSettings, load_settings
from tests.support.corpora import make_corpus
from tests.support.evaluation_tables import make_table
from tests.support.runs import make_run


def test_neighbours_tell_features_that_carry_the_labels_from_features_that_do_not() -> None:
    def error(signal: bool) -> float:
        table = make_table(signal=signal, unknown=0.2)
        train, test = table.take(table.subject < 5), table.take(table.subject >= 5)
        predicted, known = Neighbours("intensity", train, 10).predict(test), test.labels >= 0
        return float(np.abs(predicted - test.labels)[known].mean())

    assert error(signal=True) < 0.9 < 1.2 < error(signal=False)


def test_neighbours_without_a_label_give_the_training_mean() -> None:
    table = make_table(subjects=2, frames=5)
    table.labels[:9] = -1
    predicted = Neighbours("intensity", table, 3).predict(table)
    assert set(predicted[:, 0]) == {np.float32(table.labels[9, 0])}


@pytest.mark.timeout(300)
def test_a_checkpoint_is_scored_on_people_of_a_labelled_corpus(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    corpus = make_corpus(tmp_path / "labelled", clips=16, frames=12, size=48, action_units=True)
    online = {
        "corpus": str(corpus),
        "every_steps": 3,
        "frames_per_clip": 3,
        "stride": 4,
        "neighbours": 5,
    }
    settings = load_settings(make_run(tmp_path / "run", tmp_path / "training", online=online))
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000006"
    checkpoint.mkdir(parents=True)
    torch.manual_seed(0)
    backbone = build_backbone(
        BackboneSettings(settings.backbone.name, settings.backbone.image_size)
    )
    save_file(backbone.net.state_dict(), checkpoint / "backbone.safetensors")
    line = evaluate_checkpoint(settings, checkpoint)
    assert line["step"] == 6
    assert {"probe_icc", "knn_icc"} < line.keys()
    assert all(-1 <= line[name] <= 1 for name in ("probe_icc", "knn_icc"))
    json.dumps(line, allow_nan=False)


def test_the_best_checkpoints_are_kept_beside_the_last_and_the_nth(tmp_path: Path) -> None:
    there = {10, 20, 30, 40}
    assert steps_by_score(tmp_path, there) == []
    for step, probe in ((10, 0.3), (20, 0.5), (30, 0.1), (40, 0.5)):
        append_json_line(
            tmp_path / ONLINE_FILE, {"step": step, "probe_icc": probe, "knn_icc": 1 - probe}
        )
    # evaluated again: the last line counts
    append_json_line(tmp_path / ONLINE_FILE, {"step": 30, "probe_icc": 0.2})
    assert read_scores(tmp_path)[30]["probe_icc"] == 0.2
    assert steps_by_score(tmp_path, there) == [40, 20, 10, 30]
    # the score of a checkpoint that is gone takes no place among the best
    assert steps_by_score(tmp_path, {10, 30}) == [10, 30]
    settings = CheckpointSettings(every_steps=10, keep_last=2, keep_every_steps=30)
    assert steps_to_keep(range(10, 80, 10), settings, {20}) == {20, 30, 60, 70}

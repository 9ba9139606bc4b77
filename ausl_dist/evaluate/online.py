"""How good the backbone is for action units while it is being trained: one checkpoint, one
line.

    python -m ausl_dist.evaluate.online RUN_FOLDER RUN_FOLDER/checkpoints/step-00001000

    backbone.safetensors ──▶ features of a labelled corpus ──▶ split by identity
        ──▶ nearest neighbours, linear probe ──▶ RUN/online.jsonl

Started beside the run by `train/online.py`, or by hand for a checkpoint that is there. It is
cheap (a few frames of each clip, one fit) and so it is coarse: it ranks the checkpoints of a
run. What a backbone is worth is the business of `compare.py`.
"""

import argparse
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from ausl_dist import command
from ausl_dist.batch import View
from ausl_dist.evaluate.features.table import FeatureTable, extract
from ausl_dist.evaluate.folds.sealed import Decided, Looked, hold_out, share_of_subjects
from ausl_dist.evaluate.predictors.base import Predictor, Task
from ausl_dist.evaluate.predictors.probe import fit_linear
from ausl_dist.evaluate.scores.rows import MAIN_SCORE, Predictions, score
from ausl_dist.json_lines import append_json_line
from ausl_dist.logs import start_logging
from ausl_dist.model.backbones import Backbone, build_backbone
from ausl_dist.run_folder import BACKBONE_FILE, ONLINE_FILE, checked_checkpoint, step_of
from ausl_dist.stream.scan import scan
from ausl_dist.train.settings import OnlineSettings, RunSettings, load_settings

FEATURES = "checkpoint"
CHUNK_ROWS = 1024  # of similarities held at once
LOWEST_PRIORITY = 19
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighbours:
    """Predicts the mean label of the training frames whose features point in the nearest
    directions (cosine).
    """

    task: Task
    train: FeatureTable = field(repr=False)
    count: int

    @property
    def action_units(self) -> tuple[int, ...]:
        return self.train.action_units

    @property
    def threshold(self) -> NDArray[np.float64]:
        return np.full(len(self.action_units), 0.5)

    @property
    def decided(self) -> Decided:
        return Decided(Looked.at(self.train), {"task": self.task, "neighbours": self.count})

    def predict(self, table: FeatureTable) -> NDArray[np.float32]:
        """Mean over the neighbours whose label is known, or over all training frames where none
        is, [N, K].
        """
        labels, known = self.train.labels.astype(np.float64), self.train.labels >= 0
        mean = np.where(known, labels, 0).sum(0) / np.maximum(known.sum(0), 1)
        own, count = _unit_length(self.train.features), min(self.count, len(self.train))
        parts = []
        for start in range(0, len(table), CHUNK_ROWS):
            similarity = _unit_length(table.features[start : start + CHUNK_ROWS]) @ own.T
            nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]  # n k
            there = known[nearest]  # n k K
            total = np.where(there, labels[nearest], 0).sum(1)
            parts.append(np.where(there.any(1), total / np.maximum(there.sum(1), 1), mean))
        return np.concatenate(parts).astype(np.float32)


def evaluate_backbone(
    backbone: Backbone, settings: OnlineSettings, image_size: int
) -> dict[str, float]:
    """Scores of nearest neighbours and linear probe on people that neither has seen, as
    knn_SCORE and probe_SCORE.

    SCORE is icc where some label is above 1, else f1. Raises ValueError for a corpus without
    labels or with fewer than three identities.
    """
    assert settings.corpus is not None
    clips = scan(
        settings.corpus,
        image_size=image_size,
        view=View(),
        stride=settings.stride,
        frames_per_clip=settings.frames_per_clip,
        threads=settings.threads,
    )
    table = extract({FEATURES: backbone.eval()}, clips)[FEATURES]
    task: Task = "intensity" if table.labels.max() > 1 else "occurrence"
    test_subjects = share_of_subjects(table.present_subjects(), settings.test_share, "online")
    train, _ = hold_out(table, test_subjects)
    # A unit that the training half does not show cannot be learnt from it.
    table = table.only_units(
        [
            unit
            for column, unit in enumerate(table.action_units)
            if (train.labels[:, column] > 0).any()
        ]
    )
    train, _ = hold_out(table, test_subjects)
    predictors: dict[str, Predictor] = {
        "knn": Neighbours(task, train, settings.neighbours),
        "probe": fit_linear(train, task),
    }
    return {
        f"{name}_{MAIN_SCORE[task]}": _score(predictor, table, test_subjects)
        for name, predictor in predictors.items()
    }


def evaluate_checkpoint(settings: RunSettings, checkpoint: Path) -> dict[str, Any]:
    """The line of one checkpoint."""
    started = time.monotonic()
    backbone = build_backbone(settings.backbone.bare())
    backbone.load_weights(load_file(checkpoint / BACKBONE_FILE))
    scores = evaluate_backbone(backbone, settings.online, settings.data.image_size)
    seconds = round(time.monotonic() - started, 3)
    return {
        "step": step_of(checkpoint),
        **scores,
        "time": time.time(),
        "seconds": seconds,
    }


def _score(predictor: Predictor, table: FeatureTable, test_subjects: tuple[str, ...]) -> float:
    _, sealed = hold_out(table, test_subjects)
    predictions = Predictions.of(predictor, sealed.open(predictor.decided))
    return round(score(predictions, resamples=0)[MAIN_SCORE[predictor.task]].mean, 6)


def _unit_length(features: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = features / np.maximum(
        np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-12)
    )
    return unit


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ausl_dist.evaluate.online",
        description="Evaluate one checkpoint of a run.",
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("checkpoint", type=Path, help="RUN_FOLDER/checkpoints/step-NNNNNNNN")
    arguments = parser.parse_args()
    start_logging()
    settings = load_settings(arguments.run_folder)
    if settings.online.corpus is None:
        raise ValueError("the run's config names no labelled corpus: set online.corpus=URL")
    os.nice(LOWEST_PRIORITY)
    torch.set_num_threads(settings.online.threads)
    line = evaluate_checkpoint(settings, checked_checkpoint(arguments.checkpoint))
    append_json_line(arguments.run_folder / ONLINE_FILE, line)
    log.info("%s", line)
    return 0


if __name__ == "__main__":
    command.run(main)

"""The alignment meter: how the score falls when the crop is shifted, scaled or turned, and
nothing else changes.

    clips ──each disturbance──▶ features of disturbed pictures
        ──the probes of the folds, as they are──▶ score by disturbance

Mismatched crops are the first reason why released facial backbones disappoint their users. The
probes were fitted on the right crops; only the pictures they are tested on are disturbed, so
the fall is what a user loses who crops a little differently.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ausl_dist.evaluate.compare import CompareSettings, Comparison, labelled_for
from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import hold_out
from ausl_dist.evaluate.scores.rows import Predictions, score
from ausl_dist.stream.scan import ScannedClip


@dataclass(frozen=True)
class Disturbance:
    """One wrong crop."""

    kind: Literal["shift right", "shift down", "scale", "turn"]
    amount: float  # shift: share of the side; scale: factor of the face's size; turn: degrees

    def matrix(self) -> Tensor:
        """Where each place of the disturbed picture is taken from, [2, 3], in coordinates from
        -1 to 1.
        """
        if self.kind == "scale":
            return torch.tensor([[1 / self.amount, 0, 0], [0, 1 / self.amount, 0]])
        if self.kind == "turn":
            cosine, sine = np.cos(np.radians(self.amount)), np.sin(np.radians(self.amount))
            return torch.tensor([[cosine, sine, 0], [-sine, cosine, 0]], dtype=torch.float32)
        moved = -2 * self.amount
        return torch.tensor(
            [
                [1.0, 0, moved if self.kind == "shift right" else 0],
                [0, 1, moved if self.kind == "shift down" else 0],
            ]
        )


DISTURBANCES = (
    *(Disturbance("shift right", amount) for amount in (-0.1, -0.05, 0.05, 0.1)),
    *(Disturbance("shift down", amount) for amount in (-0.1, -0.05, 0.05, 0.1)),
    *(Disturbance("scale", amount) for amount in (0.8, 0.9, 1.1, 1.25)),
    *(Disturbance("turn", amount) for amount in (-15.0, -5.0, 5.0, 15.0)),
)


def disturbed(clips: Iterable[ScannedClip], disturbance: Disturbance) -> Iterator[ScannedClip]:
    """The clips with every frame moved; what comes in from outside repeats the edge."""
    matrix = disturbance.matrix()
    for clip in clips:
        grid = torch.nn.functional.affine_grid(
            matrix.expand(len(clip.frames), 2, 3), list(clip.frames.shape), align_corners=False
        )
        frames = torch.nn.functional.grid_sample(
            clip.frames, grid, padding_mode="border", align_corners=False
        )
        yield replace(clip, frames=frames, landmarks=None)


def measure(
    comparison: Comparison,
    settings: CompareSettings,
    table_of: Callable[[Disturbance], FeatureTable],
    disturbances: Sequence[Disturbance] | None = None,
) -> list[dict[str, Any]]:
    """Main score (mean of folds) of the first row's predictors on all DISTURBANCES, beside its
    score on the right pictures.
    """
    row = comparison.rows[0]
    name = comparison.main
    lines: list[dict[str, Any]] = [
        {"kind": "none", "amount": 0.0, "score": round(row.mean_of_folds(name).mean, 6)}
    ]
    for disturbance in DISTURBANCES if disturbances is None else disturbances:
        table = labelled_for(table_of(disturbance), settings, row.predictions.action_units)
        per_unit = []
        for (_, test_subjects), result in zip(comparison.folds, row.folds, strict=True):
            _, sealed = hold_out(table, test_subjects)
            predictions = Predictions.of(
                result.predictor, sealed.open(result.predictor.decided)
            )
            per_unit.append(score(predictions, resamples=0)[name].per_unit)
        lines.append(
            {
                "kind": disturbance.kind,
                "amount": disturbance.amount,
                "score": round(float(np.nanmean(per_unit)), 6),
            }
        )
    return lines

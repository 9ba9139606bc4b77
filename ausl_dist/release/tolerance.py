"""How much features and scores change when a crop is not quite where the template wants it.

    reference crops ──shifted, scaled, turned──▶ the bundle's own preprocessing ──▶ features
        ──▶ distance to those of the straight crops

A distance means nothing by itself. It is given as a share of the mean distance between two of
the straight crops: at 1, a crop's misplacement changes the features as much as another face
does.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import CROP_SIZE
from ausl_dist.model.backbones import Backbone
from ausl_dist.model.encode import encode_frames
from ausl_dist.release.head import ActionUnitHead
from ausl_dist.release.preprocessing import Preprocessing
from ausl_dist.release.reference import ReferenceFaces


@dataclass(frozen=True)
class Misplacement:
    """How a face lies in the crop against where the template has it."""

    right: float = 0.0  # share of the crop's side
    down: float = 0.0  # share of the crop's side
    scale: float = 1.0
    degrees: float = 0.0  # clockwise

    def __str__(self) -> str:
        words = [
            f"{name} by {share:.0%}"
            for name, share in (("right", self.right), ("down", self.down))
            if share
        ]
        words += [f"{self.scale:.0%} as large"] * (self.scale != 1) + [
            f"turned by {self.degrees:g} degrees"
        ] * (self.degrees != 0)
        return ", ".join(words) or "in place"

    def apply(self, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The crop [256, 256, 3] with its face moved; what comes in from outside repeats the
        edge.
        """
        middle = (CROP_SIZE - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), -self.degrees, self.scale)
        matrix[:, 2] += np.array([self.right, self.down]) * CROP_SIZE
        moved = cv2.warpAffine(
            crop,
            matrix,
            (CROP_SIZE, CROP_SIZE),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(moved, np.uint8)


MISPLACEMENTS = (
    *(Misplacement(right=share) for share in (0.02, 0.05, 0.1)),
    *(Misplacement(down=share) for share in (0.02, 0.05, 0.1)),
    *(Misplacement(scale=scale) for scale in (0.8, 0.9, 1.1, 1.25)),
    *(Misplacement(degrees=angle) for angle in (3.0, 6.0, 12.0)),
)


@dataclass(frozen=True)
class ToleranceRow:
    """What one misplacement changes."""

    face: str  # how it lies
    feature_change: (
        float  # mean over the faces; 1 is the mean distance between two faces in place
    )
    # mean absolute change over faces and action units, in the head's unit; None without a head
    score_change: float | None


def measure_tolerance(
    backbone: Backbone,
    faces: ReferenceFaces,
    preprocessing: Preprocessing,
    head: ActionUnitHead | None,
) -> list[ToleranceRow]:
    """One row for each of MISPLACEMENTS, rounded to two digits: the rest differs between
    processors.
    """
    straight = encode_frames(backbone, faces.inputs(preprocessing))  # N D
    between = torch.nn.functional.pdist(straight.double()).mean().clamp(min=1e-12)
    rows = []
    for misplacement in MISPLACEMENTS:
        moved = dataclasses.replace(
            faces, crops=np.stack([misplacement.apply(crop) for crop in faces.crops])
        )
        features = encode_frames(backbone, moved.inputs(preprocessing))
        change = float((features - straight).double().norm(dim=1).mean() / between)
        scores = (
            None
            if head is None
            else _two_digits(float((head(features) - head(straight)).abs().mean()))
        )
        rows.append(ToleranceRow(str(misplacement), _two_digits(change), scores))
    return rows


def to_json(rows: list[ToleranceRow], faces: ReferenceFaces) -> dict[str, Any]:
    """tolerance.json."""
    return {"faces": faces.source, "rows": [dataclasses.asdict(row) for row in rows]}


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")

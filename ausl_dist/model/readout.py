"""The readout: what a consumer gets of a picture, made from the network's last map.

    images N 3 H W ──▶ network ──▶ map N D h w ─┬─ mean     what the network itself pools, N D
                                                ├─ grid     the means of c x c cells, N D*c*c
                                                ├─ regions  the map at AU places, N D*places
                                                └─ learnt   flattened and projected, N W

Faces are aligned, and action units live in places; a mean over the map throws the place away.
The readout belongs to the backbone: objectives that compare frames look at it, it is trained
with them, released with the weights and exported to ONNX.

`regions` reads where the places lie in an aligned mean face, so that it needs no landmarks in
use. A crop that is drawn at random moves the face by some pixels; a cell of the last map is
larger.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.faces.landmarks import CROP_SIZE, TEMPLATE
from ausl_dist.objectives.head_motion import MEAN_FACE
from ausl_dist.objectives.layers import cell_means
from ausl_dist.objectives.regions import PLACE_OF_UNIT, centres, places_of

OUTER_EYES = (36, 45)  # of the landmarks, image left first
OUTER_EYES_IN_TEMPLATE = (0, 3)

# What a released backbone may ask for: memory grows with these.
MOST = {"cells": 16, "channels": 4096, "dim": 16_384}
MIN_CROP = 0.1
Kind = Literal["mean", "grid", "regions", "learnt"]


@dataclass(frozen=True)
class ReadoutSettings:
    """Which readout; the numbers below count for the kind that they name."""

    kind: Kind = "mean"
    cells: int = 3  # grid: a side
    # regions: side of what the network sees, as a share of the aligned frame's, as View.crop
    crop: float = 213 / 256
    channels: int = 64  # learnt: to which the map is narrowed before it is flattened
    dim: int = 256  # learnt: W

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(
                    f"readout: {name} must lie in [1, {most}], not {getattr(self, name)}"
                )
        if not MIN_CROP <= self.crop <= 1:
            raise ValueError(f"readout: crop must lie in [{MIN_CROP}, 1], not {self.crop}")


class Grid(nn.Module):
    """The means of `cells` x `cells` cells of the map, N D*cells*cells."""

    def __init__(self, map_dim: int, cells: int) -> None:
        super().__init__()
        self.cells, self.dim = cells, map_dim * cells * cells

    def forward(self, maps: Tensor) -> Tensor:
        return cell_means(maps, self.cells)


class Regions(nn.Module):
    """The map at the places of all action units with a rule, both sides, N D*places."""

    def __init__(self, map_dim: int, crop: float) -> None:
        super().__init__()
        places = template_places(crop)  # P 2
        self.dim = map_dim * len(places)
        self.places: Tensor
        self.register_buffer("places", places, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[2:]
        x = _nearest_two(self.places[:, 0], width).to(maps)  # P w
        y = _nearest_two(self.places[:, 1], height).to(maps)  # P h
        # bilinear reading as one product
        weight = (y[:, :, None] * x[:, None, :]).flatten(1)  # P hw
        return (maps.flatten(2) @ weight.T).flatten(1)


class Learnt(nn.Module):
    """The map narrowed, flattened and projected, with batch norm and ReLU: N W."""

    def __init__(self, map_dim: int, side: tuple[int, int], channels: int, dim: int) -> None:
        super().__init__()
        self.side, self.dim = side, dim
        self.narrow = nn.Conv2d(map_dim, channels, 1)
        self.project = nn.Linear(channels * side[0] * side[1], dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, maps: Tensor) -> Tensor:
        if tuple(maps.shape[2:]) != self.side:
            raise ValueError(
                f"the learnt readout is made for a map of {self.side}, not {tuple(maps.shape[2:])}: "
                "give images of backbone.image_size"
            )
        if self.norm.training and len(maps) == 1:
            raise ValueError(
                "the learnt readout has batch norm, which learns nothing from a single picture: "
                "raise batch.clips, or run fewer ranks, so that each has two clips at a time"
            )
        projected: Tensor = self.project(self.narrow(maps).flatten(1))
        return F.relu(self.norm(projected))


def build_readout(
    settings: ReadoutSettings, map_dim: int, side: tuple[int, int]
) -> Grid | Regions | Learnt | None:
    """The readout for maps of `map_dim` channels and this height and width; None for the
    network's own mean.
    """
    if settings.kind == "mean":
        return None
    if settings.kind == "grid":
        return Grid(map_dim, settings.cells)
    if settings.kind == "regions":
        return Regions(map_dim, settings.crop)
    return Learnt(map_dim, side, settings.channels, settings.dim)


def template_places(crop: float) -> Tensor:
    """Where action units show in an aligned mean face, as shares of a central crop's side: P 2
    (x, y).
    """
    left, right = (
        torch.tensor(TEMPLATE[i], dtype=torch.float32) for i in OUTER_EYES_IN_TEMPLATE
    )
    face = torch.tensor(MEAN_FACE)[:, :2]
    middle = face[list(OUTER_EYES)].mean(0)
    landmarks = (face - middle) * (right - left).norm() + (
        left + right
    ) / 2  # 68 2, crop pixels
    points = centres(landmarks, places_of(sorted(PLACE_OF_UNIT))).flatten(0, 1)
    return ((points + 0.5) / CROP_SIZE - 0.5) / crop + 0.5


def _nearest_two(share: Tensor, side: int) -> Tensor:
    """Weights P x side of linear interpolation at shares P of a side; beyond the last centre,
    that one's value.
    """
    at = (share * side - 0.5).clamp(0, side - 1)
    return (1 - (at[:, None] - torch.arange(side, device=share.device)).abs()).clamp(min=0)

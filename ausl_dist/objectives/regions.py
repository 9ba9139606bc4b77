"""Where on a face each action unit shows: pairs of boxes from landmarks, one on either side.

    landmarks, 68 points ──▶ two points of the face, moved up or down by a share of the `ruler`
        ──▶ centres ──▶ square boxes

The rules are those of the code of Shao et al., "JAA-Net", ECCV 2018 / IJCV 2021, after EAC-Net
(Li et al., TPAMI 2018). The ruler is the horizontal distance of the inner eye corners. Several
units share a place, so twelve units of BP4D make nine pairs. The pair of AU 23, 24 and 25 is
the middle of the upper and the lower lip, not left and right.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ausl_dist.units import base_of

INNER_EYE_CORNERS = (39, 42)


@dataclass(frozen=True)
class FacePlace:
    """A pair of points: two landmarks, and how many rulers below them (above, where negative)."""

    landmarks: tuple[int, int]
    rulers_down: float = 0.0


_MOUTH_CORNERS, _LIP_MIDDLE, _BELOW_LIP = (
    FacePlace((48, 54)),
    FacePlace((51, 57)),
    FacePlace((56, 58), 1 / 2),
)
PLACE_OF_UNIT = {
    1: FacePlace((21, 22), -1 / 2),  # inner ends of the brows
    2: FacePlace((18, 25), -1 / 3),  # outer brows
    4: FacePlace((19, 24), 1 / 3),  # middle of the brows
    6: FacePlace((41, 46), 1.0),  # lower lids
    7: FacePlace((38, 43)),  # upper lids
    9: FacePlace((32, 34), -1 / 2),  # nostrils
    10: FacePlace((61, 63)),  # inner edge of the upper lip
    12: _MOUTH_CORNERS,
    14: _MOUTH_CORNERS,
    15: _MOUTH_CORNERS,
    17: _BELOW_LIP,
    23: _LIP_MIDDLE,
    24: _LIP_MIDDLE,
    25: _LIP_MIDDLE,
    26: _BELOW_LIP,
}
BP4D_UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
DISFA_UNITS = (1, 2, 4, 6, 9, 12, 25, 26)


def places_of(action_units: Iterable[int]) -> tuple[FacePlace, ...]:
    """The distinct places of these action units, in their order.

    Raises ValueError for a unit without a rule.
    """
    action_units = list(map(base_of, action_units))  # a side has the place of its unit
    unknown = sorted(set(action_units) - set(PLACE_OF_UNIT))
    if unknown:
        raise ValueError(
            f"no place on the face is known for AU {unknown}; choose from {sorted(PLACE_OF_UNIT)}"
        )
    return tuple(dict.fromkeys(PLACE_OF_UNIT[unit] for unit in action_units))


def place_of(action_unit: int) -> FacePlace:
    """The place of one action unit; ValueError as `places_of`."""
    (place,) = places_of([action_unit])
    return place


def centres(landmarks: Tensor, places: tuple[FacePlace, ...]) -> Tensor:
    """Centres [..., P, 2 sides, 2 (x, y)] from landmarks [..., 68, 2], pixels."""
    left, right = INNER_EYE_CORNERS
    ruler = (landmarks[..., right, 0] - landmarks[..., left, 0]).abs()
    index = torch.tensor([place.landmarks for place in places], device=landmarks.device)
    points = landmarks[..., index, :]  # ... P 2 2
    down = torch.tensor(
        [place.rulers_down for place in places], device=landmarks.device, dtype=landmarks.dtype
    )
    shift = ruler[..., None] * down  # ... P
    return torch.stack([points[..., 0], points[..., 1] + shift[..., None]], dim=-1)


def corners(centre: Tensor, side: int, image_size: tuple[int, int]) -> Tensor:
    """First pixel (x, y), int64, of the `side` x `side` pixel boxes around centres [..., 2],
    moved inside an image of (height, width).
    """
    height, width = image_size
    limit = torch.tensor([width - side, height - side], device=centre.device)
    return (centre.float() - (side - 1) / 2).round().long().clamp(min=0).minimum(limit)


def inside(corner: Tensor, side: int, image_size: tuple[int, int]) -> Tensor:
    """Which pixels lie in each box: bool [..., H, W] from corners [..., 2]."""
    height, width = image_size
    x, y = torch.arange(width, device=corner.device), torch.arange(height, device=corner.device)
    in_x = (x >= corner[..., :1]) & (x < corner[..., :1] + side)  # ... W
    in_y = (y >= corner[..., 1:]) & (y < corner[..., 1:] + side)  # ... H
    return in_y[..., :, None] & in_x[..., None, :]


def cut(images: Tensor, corner: Tensor, side: int) -> Tensor:
    """The pixels of the boxes: N R C side side from images N C H W and corners N R 2."""
    steps = torch.arange(side, device=corner.device)
    x, y = corner[..., 0, None] + steps, corner[..., 1, None] + steps  # N R side
    image = torch.arange(len(images), device=corner.device)[:, None, None, None]
    return images.permute(0, 2, 3, 1)[image, y[..., :, None], x[..., None, :]].permute(
        0, 1, 4, 2, 3
    )

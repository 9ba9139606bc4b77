"""Tokens of the face's regions, each read from the feature map and related to all others.

    map N D h w ──▶ 3 x 3 bins of bilinear samples in each region's box ──▶ linear ──▶ + where it is
        ──▶ transformer ──▶ tokens

What is recovered of removed regions (`roi_inpainting`) and what tells action units
(`action_units`, `regions`) go through the same tokens: so the relations between units that one
learns serve the other.
"""

import torch
from torch import Tensor, nn

from ausl_dist.objectives.base import in_float32
from ausl_dist.objectives.layers import all_of, feed, learnt_tokens
from ausl_dist.objectives.regions import FacePlace, centres, corners

BINS, SAMPLES = 3, 2  # a region is read as 3 x 3 bins, each the mean of 2 x 2 bilinear samples


class RegionTokens(nn.Module):
    """Related tokens of `places`, both sides of each; `region` is a box's side as a share of
    the image's.
    """

    def __init__(
        self,
        map_dim: int,
        places: tuple[FacePlace, ...],
        *,
        region: float,
        width: int,
        layers: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.places, self.region, self.width = places, region, width
        self.token = nn.Linear(map_dim * BINS * BINS, width)
        self.where = learnt_tokens(2 * len(places), width)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            2 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.relate = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def boxes(self, landmarks: Tensor, size: tuple[int, int]) -> tuple[Tensor, int]:
        """First pixels [..., P, 2, 2] of the boxes in an image of (height, width), and their
        side.
        """
        side = round(self.region * size[1])
        return corners(centres(landmarks, self.places), side, size), side

    def forward(self, maps: Tensor, boxes: Tensor, side: int, size: int) -> Tensor:
        """Tokens N P 2 W of maps N D h w at boxes N P 2 2, in pixels of the image of side
        `size`.
        """
        points = BINS * SAMPLES
        # pixel edges are at integers here
        steps = (torch.arange(points, device=boxes.device) + 0.5) * (side / points)
        at = (
            boxes.flatten(1, 2)[..., None] + steps
        ) / size  # N R 2 points, 0 to 1 over the image
        with in_float32(maps):
            along_x = bin_weights(at[:, :, 0], maps.shape[-1])  # N R 3 w
            along_y = bin_weights(at[:, :, 1], maps.shape[-2])  # N R 3 h
            rows = torch.einsum("nryh,ndhw->nrdyw", along_y, maps.float())
            bins = torch.einsum("nrxw,nrdyw->nrdyx", along_x, rows)
        related: Tensor = self.relate(feed(self.token, bins.flatten(2)) + all_of(self.where))
        return related.unflatten(1, (-1, 2))


def bin_weights(at: Tensor, cells: int) -> Tensor:
    """How much each of `cells` cells of a map counts in each bin of a region: N R 3 cells.

    For places N R points along one side of the image, 0 to 1; each point is read from its two
    nearest cells, and points beyond the outermost centres from these. A product of matrices,
    since the gradient of `grid_sample` differs from call to call on a GPU.
    """
    place = (at * cells - 0.5).clamp(0, cells - 1)
    centres = torch.arange(cells, device=at.device)
    near = (1 - (place[..., None] - centres).abs()).clamp(min=0)  # N R points cells
    return near.unflatten(2, (BINS, SAMPLES)).mean(3)

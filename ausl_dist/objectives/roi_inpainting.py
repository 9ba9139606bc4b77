"""RoI inpainting: paint removed regions of the face from what the other regions, and their
relations, say.

    frame ──▶ one or two pairs of regions removed, both sides ──▶ backbone ──▶ map
    map at every region ──▶ token ──▶ relation transformer over all tokens
        ──▶ tokens of removed regions ──▶ decoder ──▶ their pixels

After the regional task of Yan et al., "Self-Supervised Regional and Temporal Auxiliary Tasks
for Facial Action Unit Recognition" (RTATL), ACM MM 2021. No code of the authors is known. Fact
of the paper: randomly chosen AU patches are removed and recovered; relations between AUs are
embedded; the backbone sees damaged images in training and intact ones in use. Our decisions:
where the regions lie and how large they are (`regions`; 17 % of the image), how many are
removed, both sides together (or the mirror side gives the answer away), the fill (mean colour),
3 x 3 bins of bilinear samples of the last map, tokens of 256, two transformer layers of four
heads, patches of 32 x 32 and the plain L1 loss. Their tasks accompany a supervised loss; here
they also pretrain alone.

Ours beside the paper's: `target: deviation` paints how a region differs from its own mean over the
clip's frames, in boxes that go along with the head alone, since who it is and how it is lit are
most of a face's pixels; `reads: pooled` paints from the backbone's readout, so that what is painted
has gone through what a consumer gets.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import BatchView, Features, Loss, Objective, masked_mean
from ausl_dist.objectives.draws import uniform
from ausl_dist.objectives.landmark_deviation import still_landmarks
from ausl_dist.objectives.layers import UpDecoder, feed, unpooling
from ausl_dist.objectives.region_tokens import RegionTokens
from ausl_dist.objectives.regions import BP4D_UNITS, centres, corners, cut, inside, places_of

PATCH = 32  # side of the decoder's patches


class RoiInpainting(Objective):
    """L1 between the pixels of removed AU regions and their reconstruction from the damaged
    image.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        map_dim: int | None = None,
        action_units: tuple[int, ...] = BP4D_UNITS,
        max_removed: int = 2,
        target: Literal["pixels", "deviation"] = "pixels",
        reads: Literal["map", "pooled"] = "map",
        region: float = 0.17,
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        frames: int = 1,
        stride: int = 5,
        view: View = PLAIN,
    ) -> None:
        super().__init__()
        self.places = places_of(action_units)
        if not 1 <= max_removed < len(self.places):
            raise ValueError(
                f"roi_inpainting: max_removed must lie in 1..{len(self.places) - 1}, "
                f"not {max_removed}"
            )
        if not 0 < region <= 0.5 or frames < 1 or stride < 1:
            raise ValueError(
                "roi_inpainting: need 0 < region <= 0.5 of the image's side, "
                "frames >= 1 and stride >= 1"
            )
        if target not in ("pixels", "deviation"):
            raise ValueError("roi_inpainting: target must be pixels or deviation")
        if target == "deviation" and frames < 2:
            raise ValueError("roi_inpainting: target=deviation needs frames >= 2")
        self.target = target
        self.unpool, channels = unpooling(reads, feature_dim, map_dim)
        self.max_removed, self.region, self.view = max_removed, region, view
        self.offsets = tuple(range(0, frames * stride, stride))
        self.regions = RegionTokens(
            channels,
            self.places,
            region=region,
            width=width,
            layers=layers,
            heads=heads,
        )
        self.spread = nn.Linear(width, width * 4)
        self.decode = UpDecoder(width, (128, 64, 32, 16), 3)  # 2 x 2 to 32 x 32

    def needs(self) -> Needs:
        return Needs(views={self.view: self.offsets}, landmarks=True)

    def forward(self, batch: BatchView) -> Loss:
        pixels = batch.pixels(self.view, self.offsets)  # B T C H W
        landmarks = batch.landmarks(self.view, self.offsets)  # B T 68 2
        valid = torch.isfinite(landmarks).all(-1).all(-1)  # B T
        side, size = round(self.region * pixels.shape[-1]), (pixels.shape[-2], pixels.shape[-1])
        landmarks = landmarks.nan_to_num()
        if self.target == "deviation":  # a box that moves with a brow hides that it moves
            landmarks = still_landmarks(landmarks)
        middles = centres(landmarks, self.places)  # B T P 2 2
        boxes = corners(middles, side, size)  # B T P 2 2
        chosen, removed = self._choose(batch)  # B T M, both
        picked = chosen[..., None, None].expand(*chosen.shape, 2, 2)  # B T M 2 2
        own = boxes.gather(2, picked)  # B T M 2 2
        hole = (
            (inside(own, side, size) & removed[..., None, None, None]).any(2).any(2)
        )  # B T H W
        # 0 is the mean colour of normalised pixels
        damaged = torch.where(hole[:, :, None], 0.0, pixels)
        # BT 2P W
        tokens = self.regions(
            self._maps(batch.encode(damaged)), boxes.flatten(0, 1), side, size[0]
        ).flatten(1, 2)
        # B T M 2 C p p
        painted = self._paint(tokens, chosen.flatten(0, 1)).unflatten(0, chosen.shape[:2])
        if self.target == "deviation":
            truth = patches_between_pixels(pixels, middles.gather(2, picked), side)
            difference = (painted.float() - (truth - truth.mean(1, keepdim=True))).square()
        else:
            # BT 2M C side side
            truth = cut(pixels.flatten(0, 1), own.flatten(0, 1).flatten(1, 2), side)
            truth = F.interpolate(
                truth.flatten(0, 1), (PATCH, PATCH), mode="bilinear", antialias=True
            ).view_as(painted)
            difference = (painted.float() - truth).abs()
        error = difference.mean((-1, -2, -3))  # B T M 2
        mask = (removed & valid[..., None])[..., None] * batch.weight[:, None, None, None]
        logs = {
            "hidden": batch.mean(hole.float().mean((1, 2, 3))),
            "usable": batch.mean(valid.float().mean(1)),
        }
        return Loss(masked_mean(error, mask.expand_as(error)), logs)

    def _choose(self, batch: BatchView) -> tuple[Tensor, Tensor]:
        """Indices of places B T M for each frame, and which of the M are removed: the first one
        always. A deviation is from the mean over frames, so there all frames lose the same.
        """
        frames = 1 if self.target == "deviation" else len(self.offsets)
        chosen = uniform(batch, f"{self.label}/places", frames, len(self.places)).argsort(-1)[
            ..., : self.max_removed
        ]
        # one less than are removed
        count = (uniform(batch, f"{self.label}/count", frames, 1) * self.max_removed).long()
        removed = torch.arange(self.max_removed, device=chosen.device) <= count
        shape = (-1, len(self.offsets), -1)
        return chosen.expand(shape), removed.expand(shape)

    def _maps(self, features: Features) -> Tensor:
        if self.unpool is None:
            return features.maps.flatten(0, 1)
        maps: Tensor = feed(self.unpool, features.pooled.flatten(0, 1))
        return maps

    def _paint(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """Patches N M 2 C p p from tokens N 2P W for the chosen places N M."""
        pairs = tokens.unflatten(1, (-1, 2))  # N P 2 W
        own = pairs.gather(
            1, chosen[..., None, None].expand(-1, -1, *pairs.shape[2:])
        )  # N M 2 W
        seeds = self.spread(own).unflatten(-1, (-1, 2, 2))  # N M 2 W 2 2
        return self.decode(seeds.flatten(0, 2)).unflatten(0, own.shape[:3])


@torch.no_grad()
def patches_between_pixels(images: Tensor, middles: Tensor, side: int) -> Tensor:
    """Patches B T M 2 C p p, p = PATCH, of images B T C H W around middles B T M 2 2 (x, y),
    `side` pixels wide, read between pixels: a region stands still where its middle is tracked.
    """
    height, width = images.shape[-2:]
    steps = ((torch.arange(PATCH, device=images.device) + 0.5) / PATCH - 0.5) * side
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    at = middles.flatten(0, 1).flatten(1, 2)[:, :, None, None] + torch.stack([x, y], -1)
    grid = (2 * at + 1) / at.new_tensor([width, height]) - 1  # BT R p p 2
    read = F.grid_sample(
        images.flatten(0, 1).float(),
        grid.flatten(1, 2),
        padding_mode="border",
        align_corners=False,
    )  # BT C R*p p
    patches = read.unflatten(2, (grid.shape[1], PATCH)).transpose(1, 2)  # BT R C p p
    return patches.unflatten(1, (-1, 2)).unflatten(0, images.shape[:2])

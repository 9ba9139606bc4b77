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

Ours beside the paper's: `target: deviation` paints what every region, removed or seen, does beyond
its own mean over the clip's frames, in boxes that go along with the head alone, each point in its
own spread, by a linear layer of the region's token: who it is and how it is lit are most of a
face's pixels, and a removed region alone follows too little from the others. `reads: pooled`
paints from the backbone's readout, so that what is painted has gone through what a consumer gets.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import (
    BatchView,
    Features,
    Loss,
    Objective,
    in_float32,
    masked_mean,
)
from ausl_dist.objectives.clip_mean import RunningSpread, loss_of_deviations, still_landmarks
from ausl_dist.objectives.draws import uniform
from ausl_dist.objectives.layers import UpDecoder, feed, unpooling
from ausl_dist.objectives.region_tokens import RegionTokens
from ausl_dist.objectives.regions import BP4D_UNITS, centres, corners, cut, inside, places_of

PATCH = 32  # side of the decoder's patches
DEVIATION_PATCH = 8  # side of the patches of a deviation


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
        self.usual = None
        if target == "deviation":
            self.usual = RunningSpread(len(self.places), 2, DEVIATION_PATCH, DEVIATION_PATCH)
            self.decode: nn.Module = nn.Linear(width, 3 * DEVIATION_PATCH**2)
        else:
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
        tokens = self.regions(
            self._maps(batch.encode(damaged)), boxes.flatten(0, 1), side, size[0]
        ).unflatten(0, removed.shape[:2])  # B T P 2 W
        logs = {
            "hidden": batch.mean(hole.float().mean((1, 2, 3))),
            "usable": batch.mean(valid.float().mean(1)),
        }
        if self.target == "deviation":
            mask = valid.all(1) * batch.weight  # of a mean over all frames
            return self._loss_of_deviations(pixels, tokens, middles, side, mask, logs)
        painted = self._paint(of_places(tokens, chosen))  # B T M 2 C p p
        # BT 2M C side side
        truth = cut(pixels.flatten(0, 1), own.flatten(0, 1).flatten(1, 2), side)
        truth = F.interpolate(
            truth.flatten(0, 1), (PATCH, PATCH), mode="bilinear", antialias=True
        ).view_as(painted)
        error = (painted.float() - truth).abs().mean((-1, -2, -3))  # B T M 2
        mask = (removed & valid[..., None])[..., None] * batch.weight[:, None, None, None]
        return Loss(masked_mean(error, mask.expand_as(error)), logs)

    def _loss_of_deviations(
        self,
        pixels: Tensor,
        tokens: Tensor,
        middles: Tensor,
        side: int,
        mask: Tensor,
        logs: dict[str, Tensor],
    ) -> Loss:
        """Squared error of what the tokens B T P 2 W of all regions say of their deviations."""
        assert self.usual is not None
        with in_float32(pixels):
            seen = patches_between_pixels(pixels, middles, side, DEVIATION_PATCH)
            left = seen - seen.mean(1, keepdim=True)  # B T P 2 C p p
            spread = self.usual(left.square().mean((1, 4)), mask)  # P 2 p p
            truth = left / spread[:, :, None]
            painted = feed(self.decode, tokens).float().view_as(truth)
            loss = loss_of_deviations(painted, truth, mask)
        loss.logs.update(logs)
        return loss

    def after_step(self, taken: bool) -> None:
        if self.usual is not None:
            self.usual.after_step(taken)

    def _choose(self, batch: BatchView) -> tuple[Tensor, Tensor]:
        """Indices of places B T M for each frame, and which of the M are removed: the first one
        always.
        """
        frames = len(self.offsets)
        chosen = uniform(batch, f"{self.label}/places", frames, len(self.places)).argsort(-1)[
            ..., : self.max_removed
        ]
        # one less than are removed
        count = (uniform(batch, f"{self.label}/count", frames, 1) * self.max_removed).long()
        removed = torch.arange(self.max_removed, device=chosen.device) <= count
        return chosen, removed

    def _maps(self, features: Features) -> Tensor:
        if self.unpool is None:
            return features.maps.flatten(0, 1)
        maps: Tensor = feed(self.unpool, features.pooled.flatten(0, 1))
        return maps

    def _paint(self, tokens: Tensor) -> Tensor:
        """Patches B T M 2 C p p from tokens B T M 2 W."""
        seeds = feed(self.spread, tokens).unflatten(-1, (-1, 2, 2))  # B T M 2 W 2 2
        return self.decode(seeds.flatten(0, 3)).unflatten(0, tokens.shape[:4])


def of_places(tokens: Tensor, chosen: Tensor) -> Tensor:
    """The tokens B T M 2 W of the places B T M among those of all, B T P 2 W."""
    return tokens.gather(2, chosen[..., None, None].expand(*chosen.shape, *tokens.shape[3:]))


@torch.no_grad()
def patches_between_pixels(images: Tensor, middles: Tensor, side: int, patch: int) -> Tensor:
    """Patches B T M 2 C p p, p = `patch`, of images B T C H W around middles B T M 2 2 (x, y),
    `side` pixels wide, read between pixels: a region stands still where its middle is tracked.
    """
    height, width = images.shape[-2:]
    steps = ((torch.arange(patch, device=images.device) + 0.5) / patch - 0.5) * side
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    at = middles.flatten(0, 1).flatten(1, 2)[:, :, None, None] + torch.stack([x, y], -1)
    grid = (2 * at + 1) / at.new_tensor([width, height]) - 1  # BT R p p 2
    read = F.grid_sample(
        images.flatten(0, 1).float(),
        grid.flatten(1, 2),
        padding_mode="border",
        align_corners=False,
    )  # BT C R*p p
    patches = read.unflatten(2, (grid.shape[1], patch)).transpose(1, 2)  # BT R C p p
    return patches.unflatten(1, (-1, 2)).unflatten(0, images.shape[:2])

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
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, masked_mean
from ausl_dist.objectives.draws import uniform
from ausl_dist.objectives.layers import UpDecoder
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
        self.max_removed, self.region, self.view = max_removed, region, view
        self.offsets = tuple(range(0, frames * stride, stride))
        self.regions = RegionTokens(
            map_dim or feature_dim,
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
        boxes = corners(centres(landmarks.nan_to_num(), self.places), side, size)  # B T P 2 2
        chosen, removed = self._choose(batch)  # B T M, both
        own = boxes.gather(2, chosen[..., None, None].expand(*chosen.shape, 2, 2))  # B T M 2 2
        hole = (
            (inside(own, side, size) & removed[..., None, None, None]).any(2).any(2)
        )  # B T H W
        # 0 is the mean colour of normalised pixels
        damaged = torch.where(hole[:, :, None], 0.0, pixels)
        # BT 2P W
        tokens = self.regions(
            batch.encode(damaged).maps.flatten(0, 1), boxes.flatten(0, 1), side, size[0]
        ).flatten(1, 2)
        # B T M 2 C p p
        painted = self._paint(tokens, chosen.flatten(0, 1)).unflatten(0, chosen.shape[:2])
        # BT 2M C side side
        truth = cut(pixels.flatten(0, 1), own.flatten(0, 1).flatten(1, 2), side)
        truth = F.interpolate(
            truth.flatten(0, 1), (PATCH, PATCH), mode="bilinear", antialias=True
        ).view_as(painted)
        error = (painted.float() - truth).abs().mean((-1, -2, -3))  # B T M 2
        mask = (removed & valid[..., None])[..., None] * batch.weight[:, None, None, None]
        logs = {
            "hidden": batch.mean(hole.float().mean((1, 2, 3))),
            "usable": batch.mean(valid.float().mean(1)),
        }
        return Loss(masked_mean(error, mask.expand_as(error)), logs)

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
        return chosen, torch.arange(self.max_removed, device=chosen.device) <= count

    def _paint(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """Patches N M 2 C p p from tokens N 2P W for the chosen places N M."""
        pairs = tokens.unflatten(1, (-1, 2))  # N P 2 W
        own = pairs.gather(
            1, chosen[..., None, None].expand(-1, -1, *pairs.shape[2:])
        )  # N M 2 W
        seeds = self.spread(own).unflatten(-1, (-1, 2, 2))  # N M 2 W 2 2
        return self.decode(seeds.flatten(0, 2)).unflatten(0, own.shape[:3])

"""Single-image flow: from one frame, say how the face is about to move.

    frame t ──▶ backbone ──▶ map ──▶ decoder ──▶ u, on a coarse grid
    frames t and t + gap ──▶ DIS optical flow ──▶ minus the motion of the head ──▶ clipped, checked ──▶ target
    or, source: stored ──▶ KEY.flow.npy ──────┘

After the temporal task of Yan et al. (RTATL), ACM MM 2021, and of Yang and Yin, FG 2019. No
code of the authors is known. Fact of the paper: optical flow is estimated from a single image,
to bring motion into the global feature. Our decisions: flow by DIS (Kroeger et al., ECCV 2016;
OpenCV) between the frames as the backbone sees them, so that mirror images and crops need no
correction; the motion of a rigid head taken off (`head_motion`); 20 pixels (at 224) at most;
pairs that hardly move or move implausibly left out; L1 inside the box of the landmarks, in
units of `scale`; a gap of 18 frames, 0.7 s. In the rendered world, whose heads swing, turning
explains 75 % of the true flow over 6 frames without its mean, and changes of action units
nothing; over 18 frames and without the rigid motion these are 28 % and 32 %, and the first
frame's action units alone explain 7 % (`python -m tools.bench_targets`): by then most are over.

`source`: measured is what the loader measures between the two frames of the view
(stream/motion.py), on its own threads; stored is what the corpus keeps, measured once when it
was built or true by construction in the rendered world: then only frame t is decoded.

Ours beside the paper's: `reads: pooled` decodes from the backbone's readout, "to bring motion into
the global feature" literally, where `map` leaves a learnt readout untrained; `frames` (of stored
motion only) guesses from that many frames of a clip, `stride` apart; `norm: l2` is the mean
where l1 is the median, and the median of motion is to stand still.

One frame does not say whether a movement begins or ends. `direction`: signed is the plain flow;
either takes, for each pair, the better of u and -u; unsigned learns length and orientation
modulo 180 degrees, as (|u| cos 2a, |u| sin 2a).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, masked_mean
from ausl_dist.objectives.head_motion import head_motion_removed
from ausl_dist.objectives.layers import UpDecoder, feed, unpooling

REFERENCE_SIZE = 224  # pixels: the image size that lengths of flow are stated for


class SingleImageFlow(Objective):
    """L1 between a face's optical flow and its guess from the first frame alone."""

    def __init__(
        self,
        *,
        feature_dim: int,
        map_dim: int | None = None,
        gap: int = 18,
        direction: Literal["signed", "either", "unsigned"] = "signed",
        source: Literal["measured", "stored"] = "measured",
        reads: Literal["map", "pooled"] = "map",
        norm: Literal["l1", "l2"] = "l1",
        frames: int = 1,
        stride: int = 6,
        scale: float = 1.0,
        largest: float = 20.0,
        median_between: tuple[float, float] = (0.1, 10.0),
        view: View = PLAIN,
    ) -> None:
        super().__init__()
        if (
            gap < 1
            or scale <= 0
            or largest <= 0
            or not 0 <= median_between[0] < median_between[1]
        ):
            raise ValueError(
                "single_image_flow: need gap >= 1, scale > 0, largest > 0 and median_between "
                "increasing"
            )
        if direction not in ("signed", "either", "unsigned"):
            raise ValueError("single_image_flow: direction must be signed, either or unsigned")
        if source not in ("measured", "stored"):
            raise ValueError("single_image_flow: source must be measured or stored")
        if norm not in ("l1", "l2"):
            raise ValueError("single_image_flow: norm must be l1 or l2")
        if frames < 1 or stride < 1 or (frames > 1 and source == "measured"):
            raise ValueError(
                "single_image_flow: need frames >= 1 and stride >= 1, and more than one frame "
                "only of stored motion: set source=stored"
            )
        if view.per_frame:
            raise ValueError(
                "single_image_flow: both frames need the same crop, or the crop is what moves: "
                "set view.per_frame=false"
            )
        self.gap, self.direction, self.source, self.view = gap, direction, source, view
        self.scale, self.largest, self.median_between = scale, largest, median_between
        self.norm = norm
        self.offsets = tuple(range(0, frames * stride, stride))
        self.unpool, channels = unpooling(reads, feature_dim, map_dim)
        self.decode = UpDecoder(channels, (128, 64, 32), 2)

    def needs(self) -> Needs:
        if self.source == "stored":
            return Needs(views={self.view: self.offsets}, landmarks=True, flow_gap=self.gap)
        return Needs(
            views={self.view: (0, self.gap)},
            landmarks=True,
            flow_gap=self.gap,
            flow_measured=(self.view,),
        )

    def forward(self, batch: BatchView) -> Loss:
        # N: the frames of all clips, B T
        pixels = batch.pixels(self.view, self.offsets).shape[-1]
        landmarks = batch.landmarks(self.view, self.offsets).flatten(0, 1)  # N 68 2
        usable = torch.isfinite(landmarks).all(-1).all(-1)  # N
        guess = feed(self.decode, self._maps(batch)).float()  # N 2 g g
        unit = pixels / REFERENCE_SIZE  # pixels of this image for one of the reference
        # N 2 h w, in pixels of the image whatever h and w
        flow = batch.flow(self.view, self.offsets).flatten(0, 1).float()
        usable &= torch.isfinite(flow).flatten(1).all(1)
        flow = flow.nan_to_num()
        # on the flow's grid
        landmarks = (landmarks.nan_to_num() + 0.5) * (flow.shape[-1] / pixels) - 0.5
        flow = head_motion_removed(flow, landmarks)
        flow = flow.clamp(-self.largest * unit, self.largest * unit)
        face = face_box(landmarks, flow.shape[-2:])  # N h w
        usable &= self._plausible(flow, face, unit)
        target = F.adaptive_avg_pool2d(flow, guess.shape[-2:]) / (unit * self.scale)
        # N g g
        mask = F.adaptive_avg_pool2d(face[:, None].float(), guess.shape[-2:])[:, 0] > 0.5
        error = self._error(guess, target, mask)  # N g g
        frames = len(self.offsets)
        weight = mask * (usable * batch.weight.repeat_interleave(frames))[:, None, None]
        logs = {
            "usable": batch.mean(usable.float().unflatten(0, (-1, frames)).mean(1)),
            "target": masked_mean(target.abs().mean(1), weight),
        }
        return Loss(masked_mean(error, weight), logs)

    def _maps(self, batch: BatchView) -> Tensor:
        if self.unpool is None:
            return batch.maps(self.view, self.offsets).flatten(0, 1)
        maps: Tensor = feed(self.unpool, batch.pooled(self.view, self.offsets).flatten(0, 1))
        return maps

    def _plausible(self, flow: Tensor, face: Tensor, unit: float) -> Tensor:
        length = flow.norm(dim=1).masked_fill(~face, torch.nan).flatten(1)
        # no pixel of a face: left out
        median = _nanmedian(length).nan_to_num(nan=-1.0) / unit
        least, most = self.median_between
        return (median >= least) & (median <= most)

    def _error(self, guess: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        if self.direction == "unsigned":
            target = orientation(target)
        error = self._distance(guess - target)
        if self.direction == "either":
            opposite = self._distance(guess + target)
            flipped = (opposite * mask).sum((1, 2)) < (error * mask).sum((1, 2))
            error = torch.where(flipped[:, None, None], opposite, error)
        return error

    def _distance(self, difference: Tensor) -> Tensor:
        return (difference.abs() if self.norm == "l1" else difference.square()).mean(1)


def _nanmedian(values: Tensor) -> Tensor:
    """The lower median of each row of B N, NaN where a row has no number.

    By sorting: torch's own median of rows has no deterministic kernel for a GPU.
    """
    ordered = values.sort(1).values  # NaN comes last
    middle = ((~values.isnan()).sum(1) - 1).clamp(min=0) // 2
    return ordered.gather(1, middle[:, None])[:, 0]


def face_box(landmarks: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Which pixels lie in the box of the landmarks: bool B H W."""
    low, high = landmarks.amin(1), landmarks.amax(1)  # B 2
    x, y = (
        torch.arange(size[1], device=landmarks.device),
        torch.arange(size[0], device=landmarks.device),
    )
    in_x = (x >= low[:, :1]) & (x <= high[:, :1])
    in_y = (y >= low[:, 1:]) & (y <= high[:, 1:])
    return in_y[:, :, None] & in_x[:, None, :]


def orientation(flow: Tensor) -> Tensor:
    """(|u| cos 2a, |u| sin 2a) of a flow B 2 H W of direction a: equal for u and -u."""
    x, y = flow[:, 0], flow[:, 1]
    length = flow.norm(dim=1).clamp(min=1e-6)
    return torch.stack([(x * x - y * y) / length, 2 * x * y / length], 1)

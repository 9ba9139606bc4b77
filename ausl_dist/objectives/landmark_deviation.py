"""Landmark deviation: from one frame, say how the face differs from its own mean over the clip.

    landmarks of T frames ──▶ their mean face ──fitted to each frame──▶ what is left, in spreads
                                                                                  ▲
    frame t ──▶ backbone ──▶ pooled ──▶ linear ──▶ a guess of it ──squared error──┘

Ours; beside the tasks of the four papers. Nine tenths of what landmarks say are who it is and
how the head stands. The first goes with the clip's own mean, the second with an affine fit of
this mean to each frame (to first order a turned head under weak perspective), robust, so that a
wide open mouth does not pull the fit. What is left is expression: in the rendered world a
linear probe on it alone has a mean ICC of 0.65, on the landmarks themselves 0.82. The mean
wants a long window: of 8 frames that are 3 apart, 0.37 is left, of 8 that are 6 apart, 0.55.

Landmarks are found once, when the corpus is built; at rest a face needs none, and its backbone
sees pixels alone. A detector's noise is averaged away in training as label noise is, its habits
are learnt.

Coordinates move unequally: a brow by a tenth of what a jaw does. Each is measured in its own
spread, kept as a running mean of squares over the steps taken.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import (
    BatchView,
    Loss,
    Objective,
    gather,
    in_float32,
    masked_mean,
)
from ausl_dist.objectives.layers import feed

FITS = 4  # of the mean face to a frame, each weighted by the distances that the last one left
LARGEST = 4.0  # spreads: what moves more is a landmark gone astray
LEAST_SPREAD = 0.2  # of the mean spread: what hardly moves is noise, and stays small
RIDGE = 1e-4  # of the squared size of the face


class LandmarkDeviation(Objective):
    """Squared error of the deviation of landmarks from the clip's mean face, over `frames`
    frames, `stride` apart.
    """

    square: Tensor  # 68 2, running mean of squares, in shares of the face's size
    weight: Tensor  # 1, of that mean: 1 where it has batch many steps

    def __init__(
        self,
        *,
        feature_dim: int,
        frames: int = 8,
        stride: int = 6,
        memory: float = 0.99,
        view: View = PLAIN,
    ) -> None:
        super().__init__()
        if frames < 2 or stride < 1 or not 0 <= memory < 1:
            raise ValueError(
                "landmark_deviation: need frames >= 2, stride >= 1 and memory in [0, 1), "
                f"not frames={frames}, stride={stride}, memory={memory}"
            )
        self.offsets = tuple(range(0, frames * stride, stride))
        self.memory, self.view = memory, view
        self.head = nn.Linear(feature_dim, 68 * 2)
        self.register_buffer("square", torch.zeros(68, 2))
        self.register_buffer("weight", torch.zeros(1))
        self._staged: list[tuple[Tensor, Tensor]] = []

    def needs(self) -> Needs:
        return Needs(views={self.view: self.offsets}, landmarks=True)

    def forward(self, batch: BatchView) -> Loss:
        landmarks = batch.landmarks(self.view, self.offsets)  # B T 68 2
        valid = torch.isfinite(landmarks).flatten(1).all(1)  # B
        mask = valid * batch.weight
        features = batch.pooled(self.view, self.offsets)
        with in_float32(landmarks):
            left = deviations(landmarks.float().nan_to_num())
            target = (left / self._spread(left, mask)).clamp(-LARGEST, LARGEST)
            guess = feed(self.head, features).float().unflatten(-1, (68, 2))  # B T 68 2
            error = (guess - target).square().mean((1, 2, 3))  # B
            size = target.square().mean((1, 2, 3))
        logs = {
            "usable": batch.mean(valid.float()),
            "unexplained": masked_mean(error.detach(), mask)
            / masked_mean(size, mask).clamp(1e-9),
        }
        return Loss(masked_mean(error, mask), logs)

    def after_step(self, taken: bool) -> None:
        staged, self._staged = self._staged, []
        for square, weight in staged if taken else []:
            self.square.copy_(square)
            self.weight.copy_(weight)

    def _spread(self, left: Tensor, mask: Tensor) -> Tensor:
        """The spread of each coordinate, 68 2, this batch counted in; equal on all ranks."""
        own = (left.square().mean(1) * mask[:, None, None]).sum(0)  # 68 2
        total, count = gather(own[None]).sum(0), gather(mask.sum()[None]).sum()
        news = (1 - self.memory) * (count > 0)
        square = (1 - news) * self.square.float() + news * total / count.clamp(min=1)
        weight = (1 - news) * self.weight.float() + news
        self._staged.append((square, weight))
        spread = (square / weight.clamp(min=1e-9)).sqrt()
        return spread.maximum(LEAST_SPREAD * spread.mean()).clamp(min=1e-6)


@torch.no_grad()
def deviations(landmarks: Tensor) -> Tensor:
    """What is left of landmarks B T 68 2 without their mean face and its affine motion, in
    shares of the face's size: B T 68 2.
    """
    mean, size = _mean_face(landmarks)
    points, basis = landmarks / size, F.pad(mean / size, (0, 1), value=1.0)  # B 1 68 3
    weight = torch.ones_like(points[..., :1])  # B T 68 1
    eye = RIDGE * torch.eye(3, device=landmarks.device)
    left = points
    for _ in range(FITS):
        weighted = (basis * weight).mT  # B T 3 68
        left = points - basis @ torch.linalg.solve(weighted @ basis + eye, weighted @ points)
        distance = left.norm(dim=-1, keepdim=True)
        # the median, by sorting: torch's own has no deterministic kernel for a GPU
        usual = distance.sort(2).values[:, :, 34:35].clamp(min=1e-4)
        weight = 1 / (1 + (distance / (1.5 * usual)).square())  # Cauchy's
    return left


def still_landmarks(landmarks: Tensor) -> Tensor:
    """Where landmarks B T 68 2 would lie if the face made no expression: the clip's mean face,
    moved as the head moves.
    """
    _, size = _mean_face(landmarks)
    return landmarks - deviations(landmarks) * size


def _mean_face(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of landmarks B T 68 2 over frames, about its middle, B 1 68 2; its size, B 1 1 1."""
    mean = landmarks.mean(1, keepdim=True)
    mean = mean - mean.mean(2, keepdim=True)
    size = mean.square().sum(-1).mean(-1).sqrt().clamp(min=1e-6)[..., None, None]
    return mean, size

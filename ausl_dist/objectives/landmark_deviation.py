"""Landmark deviation: from one frame, say how the face differs from its own mean over the clip.

    landmarks of the clip ──▶ their mean face ──fitted to frame t──▶ what is left, whitened
                                                                                  ▲
    frame t ──▶ backbone ──▶ pooled ──▶ linear ──▶ a guess of it ──squared error──┘

Ours; beside the tasks of the four papers. What is left without who it is and how the head
stands (`clip_mean`) is expression: in the rendered world a linear probe on it alone has a mean
ICC of 0.65, on the landmarks themselves 0.82. The mean is over all frames of the clip, whose
landmarks are stored; over the few that are looked at, 8 that are 6 apart, it leaves 0.61. What is
left is whitened (`floor`, as a share of the mean variance): else an open jaw, which moves half of
the points, is nearly all of the error.

Landmarks are found once, when the corpus is built; at rest a face needs none, and its backbone
sees pixels alone. A detector's noise is averaged away in training as label noise is, its habits
are learnt.
"""

import torch
from torch import nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, in_float32
from ausl_dist.objectives.clip_mean import RunningWhitening, deviations, loss_of_deviations
from ausl_dist.objectives.layers import feed

LARGEST = 4.0  # spreads: what moves more is a landmark gone astray


class LandmarkDeviation(Objective):
    """Squared error of the deviation of landmarks from the clip's mean face, over `frames`
    frames, `stride` apart.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        frames: int = 8,
        stride: int = 6,
        floor: float = 0.3,
        memory: float = 0.99,
        view: View = PLAIN,
    ) -> None:
        super().__init__()
        if frames < 1 or stride < 1:
            raise ValueError(
                "landmark_deviation: need frames >= 1 and stride >= 1, "
                f"not frames={frames}, stride={stride}"
            )
        self.offsets = tuple(range(0, frames * stride, stride))
        self.view = view
        self.head = nn.Linear(feature_dim, 68 * 2)
        self.whiten = RunningWhitening(68 * 2, floor=floor, largest=LARGEST, memory=memory)

    def needs(self) -> Needs:
        return Needs(views={self.view: self.offsets}, landmarks=True, mean_face=True)

    def forward(self, batch: BatchView) -> Loss:
        landmarks = batch.landmarks(self.view, self.offsets)  # B T 68 2
        valid = torch.isfinite(landmarks).flatten(1).all(1)  # B
        mask = valid * batch.weight
        features = batch.pooled(self.view, self.offsets)
        with in_float32(landmarks):
            mean_face = batch.mean_face(self.view).float()
            left = deviations(landmarks.float().nan_to_num(), mean_face.nan_to_num())
            target = self.whiten(left.flatten(2), mask)  # B T 136
            guess = feed(self.head, features).float()
            loss = loss_of_deviations(guess, target, mask)
        loss.logs["usable"] = batch.mean(valid.float())
        return loss

    def after_step(self, taken: bool) -> None:
        self.whiten.after_step(taken)

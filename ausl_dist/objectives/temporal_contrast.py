"""Temporal contrast: each frame of a short clip must be told from the others, the further away
the more clearly.

    view 1, frames 0 .. n-1 ──▶ student ──▶ q_i ─┐
                                                 ├──▶ s_ij = q_i . k_j
    view 2, the same frames ──▶ teacher ──▶ k_j ─┘

    row i must point at column i, by a margin that grows with |i - j|

After the temporal half (TCL) of Li and Shan, "Contrastive Learning of Person-independent
Representations for Facial Action Unit Detection", IEEE TIP 32, 2023. No code of the authors is
known. Fact of the paper: the signal (frames of one clip are told apart, with margins, for
coherence and evolution), a momentum encoder. Our decisions: both formulas below, every number,
the projector, the views, every third frame, and that the two halves of the paper are objectives
with projectors of their own. `experiment=clp_consecutive` takes consecutive frames (a fact) and
one projector for both.

* soft: -mean_i log softmax_j((s_ij + m(|i-j|)) / tau)[i], m(d) = m0 d / (n-1): the further a
  frame, the further it must be pushed.
* hard: mean_i of the sum over |i-j| < |i-l| of max(0, s_il - s_ij + m0 (|i-l| - |i-j|) /
  (n-1)). With i the first frame and j, l neighbours this is temporal ranking, whose margin
  counts squared distance, twice the cosine.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ausl_dist.batch import Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, in_float32
from ausl_dist.objectives.layers import cross_entropy_of_rows, embed, projector

# As for momentum contrast, without hue: geometry is one draw for the clip, else the crop would
# tell frames apart.
STRONG = View(
    crop=(0.7, 0.875),
    flip=0.5,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    grey=0.2,
    blur=0.5,
)
STRONG_KEY = replace(STRONG, draw=1)


class TemporalContrast(Objective):
    """Contrast of `frames` frames, `stride` apart, of one clip with margins that grow in time;
    nothing crosses clips.
    """

    taught = ("head",)

    def __init__(
        self,
        *,
        feature_dim: int,
        variant: Literal["soft", "hard"] = "soft",
        frames: int = 8,
        stride: int = 3,
        temperature: float = 0.1,
        margin: float = 0.2,
        hidden_dim: int = 512,
        embedding_dim: int = 128,
        keys: Literal["teacher", "student"] = "teacher",
        teacher_momentum: float = 0.999,
        view: View = STRONG,
        key_view: View = STRONG_KEY,
    ) -> None:
        super().__init__()
        if frames < 3 or stride < 1:
            raise ValueError(
                f"temporal_contrast: need frames >= 3 and stride >= 1, not {frames} and {stride}"
            )
        if variant not in ("soft", "hard") or keys not in ("teacher", "student"):
            raise ValueError(
                "temporal_contrast: variant must be soft or hard, keys teacher or student"
            )
        if view == key_view:
            raise ValueError(
                "temporal_contrast: view and key_view are equal, frames would be matched by their "
                "pixels: set key_view.draw=1"
            )
        if not temperature > 0:
            raise ValueError(
                f"temporal_contrast: temperature must be above 0, not {temperature}"
            )
        self.variant, self.temperature, self.margin = variant, temperature, margin
        self.needs_teacher = keys == "teacher"
        self.teacher_momentum = teacher_momentum
        self.view, self.key_view = view, key_view
        self.offsets = tuple(range(0, frames * stride, stride))
        self.head = projector(feature_dim, hidden_dim, embedding_dim)

    def needs(self) -> Needs:
        return Needs(views={self.view: self.offsets, self.key_view: self.offsets})

    def forward(self, batch: BatchView) -> Loss:
        queries = embed(self.head, batch.pooled(self.view, self.offsets))  # B n E
        keys = self._keys(batch)
        with in_float32(queries):
            similarity = queries @ keys.transpose(1, 2)  # B n n
        if self.variant == "soft":
            loss = soft_margin_loss(similarity, self.temperature, self.margin)
        else:
            loss = hard_margin_loss(similarity, self.margin)
        found = similarity.argmax(-1) == torch.arange(
            similarity.shape[1], device=similarity.device
        )
        logs = {
            "accuracy": batch.mean(found.float().mean(1)),
            "teacher_agreement": batch.mean(similarity.diagonal(dim1=1, dim2=2).mean(1)),
        }
        return Loss(batch.mean(loss), logs, embedding=queries.detach().flatten(0, 1))

    def _keys(self, batch: BatchView) -> Tensor:
        if not self.needs_teacher:
            return embed(self.head, batch.pooled(self.key_view, self.offsets))
        with torch.no_grad():
            return embed(
                batch.teacher_module(self, "head"),
                batch.teacher_pooled(self.key_view, self.offsets),
            )


def soft_margin_loss(similarity: Tensor, temperature: float, margin: float) -> Tensor:
    """The soft variant for similarities B n n; returns B.

    Equal similarities and no margin give ln n.
    """
    count = similarity.shape[1]
    logits = (similarity + margin * _distance(similarity) / (count - 1)) / temperature
    target = torch.arange(count, device=similarity.device).expand(len(similarity), -1)
    return cross_entropy_of_rows(logits, target).mean(1)


def hard_margin_loss(similarity: Tensor, margin: float) -> Tensor:
    """The hard variant for similarities B n n; returns B."""
    count = similarity.shape[1]
    distance = _distance(similarity)
    # i j l: how much further from i is l than j
    further = distance[:, None, :] - distance[:, :, None]
    # B i j l
    hinge = (
        similarity[:, :, None, :] - similarity[:, :, :, None] + margin * further / (count - 1)
    )
    return (hinge.clamp(min=0) * (further > 0)).sum((2, 3)).mean(1)


def _distance(similarity: Tensor) -> Tensor:
    place = torch.arange(similarity.shape[1], device=similarity.device, dtype=similarity.dtype)
    return (place[:, None] - place[None, :]).abs()

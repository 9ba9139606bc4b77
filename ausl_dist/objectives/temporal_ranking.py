"""Temporal ranking: frames further away in time must lie further away in the embedding.

    frame      t        t+1       t+1+k      ...    t+1+Nk
    role     anchor    sibling     far 1     ...    far N
    distance           d_0    <    d_1    <  ...  < d_N       from the anchor, each by a margin

Lu, Tavabi, Soleymani, "Self-Supervised Learning for Facial Action Unit Recognition through
Temporal Consistency", BMVC 2020, after the authors' published pre-training code: the loss, N =
10, margin 0.03, the linear embedding to 256, the crop of 213 of the central 224 of 256 pixels
drawn for each frame alone, and three forward passes (one per role, so that batch norm sees each
role by itself) are theirs. The spacing k of the published table is unknown (the code's default
is 1), and they start from ImageNet weights (`backbone.weights`). Theirs draws one anchor a
video, once; the loader draws one a clip, once (`data.window_drawn`, as
experiment=temporal_ranking sets it) or anew in every epoch.
"""

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, in_float32


class TemporalRanking(Objective):
    """The aggregate ranking loss of Lu et al. (2020) over one anchor, its next frame and
    `n_far` frames every `spacing`.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        n_far: int = 10,
        spacing: int = 1,
        margin: float = 0.03,
        embedding_dim: int = 256,
        batch_norm: Literal["per_role", "merged"] = "per_role",
        crop: Literal["per_frame", "per_clip"] = "per_frame",
        view: View = PLAIN,
    ) -> None:
        super().__init__()
        if n_far < 1 or spacing < 1:
            raise ValueError(
                f"temporal_ranking: n_far and spacing must be at least 1, not {n_far} and {spacing}"
            )
        if batch_norm not in ("per_role", "merged") or crop not in ("per_frame", "per_clip"):
            raise ValueError(
                "temporal_ranking: batch_norm must be per_role or merged, "
                "crop per_frame or per_clip"
            )
        if batch_norm == "per_role" and crop == "per_clip":
            raise ValueError(
                "temporal_ranking: with batch_norm=per_role each role has a crop of its own: "
                "type crop=per_frame, or merged"
            )
        self.margin = margin
        self.embed = nn.Linear(feature_dim, embedding_dim)
        # Views that differ in `draw` are encoded in passes of their own: that is what keeps the
        # roles apart in batch norm.
        draws = (0, 1, 2) if batch_norm == "per_role" else (0, 0, 0)
        offsets = ((0,), (1,), tuple(1 + i * spacing for i in range(1, n_far + 1)))
        looks = [
            dataclasses.replace(view, per_frame=crop == "per_frame", draw=view.draw + draw)
            for draw in draws
        ]
        self.roles = list(zip(looks, offsets, strict=True))

    def needs(self) -> Needs:
        views: dict[View, tuple[int, ...]] = {}
        for view, offsets in self.roles:
            views[view] = views.get(view, ()) + offsets
        return Needs(views=views)

    def forward(self, batch: BatchView) -> Loss:
        # B 2+N D
        features = torch.cat(
            [batch.pooled(view, offsets) for view, offsets in self.roles], dim=1
        )
        with in_float32(features):
            # Neighbouring frames lie 1e-3 to 1e-2 apart in squared distance; a product of unit
            # vectors in bfloat16 resolves 4e-3.
            embeddings = F.normalize(
                self.embed(features.to(self.embed.weight.dtype)).float(), dim=-1
            )
            # B 1+N, d_0 ... d_N
            distances = (embeddings[:, :1] - embeddings[:, 1:]).square().sum(-1)
            loss = ranking_loss(distances, self.margin)
        ordered = (distances[:, :-1] < distances[:, 1:]).float().detach()  # B N
        logs = {
            f"accuracy_pair_{i}": batch.mean(pair) for i, pair in enumerate(ordered.unbind(1))
        }
        logs["accuracy"] = batch.mean(ordered.mean(1))
        return Loss(batch.mean(loss), logs, embedding=embeddings.detach().flatten(0, 1))


def ranking_loss(distances: Tensor, margin: float) -> Tensor:
    """Sum over i of max(0, d_{i-1} - d_i + margin) for distances B 1+N; returns B.

    All distances equal (collapse) gives N * margin, 0.30 with the paper's numbers; ordered with
    gaps of the margin or more gives 0.
    """
    return (distances[:, :-1] - distances[:, 1:] + margin).clamp(min=0).sum(1)

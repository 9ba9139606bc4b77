"""Dense predictive coding: from the first blocks of a clip, predict the features of the next
ones at every place of the map.

    blocks 1 .. N of L frames ──▶ encoder ──▶ z_1 ... z_N, each W h w
    z_1 .. z_{N-P}, ReLU ──▶ ConvGRU ──▶ context h
    for p = 1 .. P:  zhat_p = phi(h);  h <- ConvGRU(ReLU(zhat_p), h)          rollout
    zhat_p at place s must be told from all other (clip, step, place) by its own z_{N-P+p} at s

Han, Xie, Zisserman, "Video Representation Learning by Dense Predictive Coding", ICCV workshop
2019. Fact of the authors' code: N = 8, L = 5, P = 3, every third frame; ConvGRU with 1 x 1
kernels, orthogonal weights and dropout 0.1 on its state; phi of two 1 x 1 convolutions; targets
before the ReLU, with gradient; plain dot products over 256 channels without norm or
temperature; negatives from the clips of one rank only. That is `encoder: block` on backbone
`resnet18_2d3d`.

Sanchez et al., "Semi-supervised Facial Action Unit Intensity Estimation with Contrastive
Learning", ACCV 2020, learn so from unlabelled face video (fact) with a ResNet, a ConvGRU and
this loss (recalled). Our decisions: `encoder: frame`, which takes each frame of the shared
image backbone, brought to W channels by a 1 x 1 convolution, and averages the L frames of a
block (here L = 1); the stride; one crop and colour for the whole clip, where Han et al. change
colour from frame to frame (`view.colour_per_frame`, as experiment=predictive_coding_block has
it).

Two ranks do not give the loss of one, which is the authors' choice: with negatives of one rank,
half as many clips a rank mean easier questions. Chance is ln(clips of the rank x P h w), logged
as `chance`. `negatives: all_ranks` makes the loss independent of the number of ranks, but for
dropout. Ours: `negatives: clip` asks only which block of the clip it is, of all N, those that were
seen among them, and of embeddings without their mean over the clip: neither who it is nor how it
is lit can tell. Told from one another alone, the P to come stay at chance, ln P, for hundreds of
steps. `reads: pooled` predicts the backbone's readout, a map of one place.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, gather, in_float32, rank
from ausl_dist.objectives.layers import ConvGRU, feed

JITTERED = View(
    crop=(0.62, 0.875), flip=0.5, brightness=0.5, contrast=0.5, saturation=0.5, grey=0.2
)


class PredictiveCoding(Objective):
    """The loss of Han et al. (2019) over `blocks` blocks of `block_frames` frames, `stride`
    apart, of which `predicted` are predicted.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        map_dim: int | None = None,
        encoder: Literal["frame", "block"] = "frame",
        blocks: int = 8,
        block_frames: int = 1,
        predicted: int = 3,
        stride: int = 5,
        width: int = 256,
        dropout: float = 0.1,
        negatives: Literal["rank", "all_ranks", "clip"] = "rank",
        reads: Literal["map", "pooled"] = "map",
        view: View = JITTERED,
    ) -> None:
        super().__init__()
        if not 1 <= predicted < blocks or block_frames < 1 or stride < 1:
            raise ValueError(
                "predictive_coding: need 1 <= predicted < blocks, block_frames >= 1 and stride >= "
                "1, "
                f"not predicted={predicted}, blocks={blocks}, block_frames={block_frames}, "
                f"stride={stride}"
            )
        if encoder not in ("frame", "block") or negatives not in ("rank", "all_ranks", "clip"):
            raise ValueError(
                "predictive_coding: encoder must be frame or block, negatives rank, all_ranks or "
                "clip"
            )
        if reads not in ("map", "pooled") or (reads == "pooled" and encoder == "block"):
            raise ValueError(
                "predictive_coding: reads must be map, or pooled with encoder=frame"
            )
        if encoder == "block" and view.per_frame:
            raise ValueError(
                "predictive_coding: a block is one piece of video: set view.per_frame=false"
            )
        self.encoder, self.negatives, self.predicted, self.view = (
            encoder,
            negatives,
            predicted,
            view,
        )
        self.reads, self.shape = reads, (blocks, block_frames)
        self.offsets = tuple(range(0, blocks * block_frames * stride, stride))
        # then z is what the encoder gives, as with Han et al.
        map_dim = feature_dim if reads == "pooled" else map_dim or feature_dim
        own_width = encoder == "block" and map_dim == width
        self.reduce = nn.Identity() if own_width else nn.Conv2d(map_dim, width, 1)
        self.aggregate = ConvGRU(width, width, dropout)
        self.predict = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def needs(self) -> Needs:
        return Needs(views={self.view: self.offsets})

    def forward(self, batch: BatchView) -> Loss:
        z = self._encode(batch)  # B N W h w
        if (
            self.negatives == "clip"
        ):  # what all its steps have in common tells none from another
            z = z - z.mean(1, keepdim=True)
        steps = z.shape[1] - self.predicted
        predictions = self._roll_out(z[:, :steps])
        asked = z if self.negatives == "clip" else z[:, steps:]
        targets = asked.permute(0, 1, 3, 4, 2).flatten(2, 3)  # B Q S W, Q = P or N
        first, usable = 0, batch.weight
        if self.negatives == "all_ranks":
            first, targets, usable = rank() * len(z), gather(targets), gather(batch.weight)
        # dot products over 256 channels, not normalised: large numbers, small differences
        others = usable * (self.negatives != "clip")
        with in_float32(z):
            loss, found = dense_contrast(
                predictions.float(), targets.float(), others > 0, first
            )
        logs = {"accuracy": batch.mean(found)} | count_negatives(targets, others)
        return Loss(batch.mean(loss), logs, embedding=z.detach().mean((3, 4)).flatten(0, 1))

    def _encode(self, batch: BatchView) -> Tensor:
        if self.encoder == "block":
            blocks = batch.pixels(self.view, self.offsets).unflatten(
                1, self.shape
            )  # B N L C H W
            maps = batch.encode(blocks).maps  # B N D h w
        elif self.reads == "pooled":  # a map of one place
            pooled = batch.pooled(self.view, self.offsets).unflatten(1, self.shape)
            maps = pooled.mean(2)[..., None, None]
        else:
            maps = (
                batch.maps(self.view, self.offsets).unflatten(1, self.shape).mean(2)
            )  # B N D h w
        flat = maps.flatten(0, 1)
        reduced = flat if isinstance(self.reduce, nn.Identity) else feed(self.reduce, flat)
        return reduced.unflatten(0, maps.shape[:2])

    def _roll_out(self, z: Tensor) -> Tensor:
        """Predictions B P S W from the first blocks' z, B N-P W h w."""
        state = self.aggregate.start(z[:, 0])
        for step in z.unbind(1):
            state = self.aggregate(F.relu(step), state)
        predictions = []
        for _ in range(self.predicted):
            predictions.append(self.predict(state))
            state = self.aggregate(F.relu(predictions[-1]), state)
        # B P W h w -> B P S W
        return torch.stack(predictions, 1).permute(0, 1, 3, 4, 2).flatten(2, 3)


def dense_contrast(
    predictions: Tensor, targets: Tensor, usable: Tensor, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy of predictions B P S W against all targets G Q S W: loss B, share
    found B.

    Clip b's own targets are those of clip `first` + b, and the last P of their Q are what was
    predicted. Clips that are not `usable`, G, are no one's negatives. Predictions orthogonal to
    all targets give ln(G Q S).
    """
    clips, steps, places, _ = predictions.shape
    asked, per_clip = steps * places, targets.shape[1] * places
    logits = predictions.flatten(0, 2) @ targets.flatten(0, 2).T  # (B P S) (G Q S)
    row_clip = first + torch.arange(clips, device=logits.device).repeat_interleave(asked)
    column_clip = torch.arange(len(targets), device=logits.device).repeat_interleave(per_clip)
    allowed = usable.repeat_interleave(per_clip)[None] | (
        row_clip[:, None] == column_clip[None]
    )
    logits = logits.masked_fill(~allowed, -torch.inf)
    own = torch.arange(per_clip - asked, per_clip, device=logits.device)
    answer = row_clip * per_clip + own.repeat(clips)
    loss = F.cross_entropy(logits, answer, reduction="none").view(clips, asked).mean(1)
    found = (logits.detach().argmax(1) == answer).float().view(clips, asked).mean(1)
    return loss, found


def count_negatives(targets: Tensor, usable: Tensor) -> dict[str, Tensor]:
    """How many negatives of each kind a prediction has among targets G Q S W, `usable` G alone
    counting; and the loss of a guess.

    spatial: the same clip at another place; temporal: the same clip and place at another step;
    easy: other clips.
    """
    steps, places = targets.shape[1:3]
    clips = (usable > 0).sum().float()
    return {
        "negatives_spatial": clips.new_tensor(steps * (places - 1)),
        "negatives_temporal": clips.new_tensor(steps - 1),
        "negatives_easy": (clips - 1).clamp(min=0) * steps * places,
        "chance": clips.clamp(min=1).log() + math.log(steps * places),
    }

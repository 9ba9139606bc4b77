"""Masked face video: paint hidden patches of frames from the visible ones.

    frames ──▶ most patches hidden ──▶ backbone ──▶ decoder ──▶ pixels of the hidden patches

`encoder: drop` is for vision transformers: only visible patches enter the backbone; a small
transformer over the tokens of all frames of a clip gets them back with a learnt token in each
hidden place. With one frame it is MAE (He et al., CVPR 2022), as FMAE has it for faces; with
`tube: true` and several frames it is after VideoMAE (Tong et al., NeurIPS 2022) and MARLIN (Cai
et al., CVPR 2023), except that the backbone sees each frame alone, and time meets in the
decoder. Fact of those papers: the ratios 0.75 (images) and 0.9 (tubes), the squared error on
hidden patches only, pixels normalised within each patch.

`encoder: fill` is for any backbone: hidden squares become the mean colour and a linear layer
paints the frame from the last map, after SimMIM (Xie et al., CVPR 2022). Fact of that paper: L1
on hidden pixels, the linear layer, ratio 0.6 with squares of 32 pixels. Our decisions: mean
colour instead of learnt tokens, which not all backbones have, and 0.75 with squares of 16 as
default for both encoders.

Ours beside theirs: `target: deviation` paints all patches, hidden and seen, of how a frame differs
from the mean of the clip's frames once its head stands as in this mean (`clip_mean`), each place
in its own spread: who it is, how it is lit and how the head stands are nearly all of a face's
pixels, and hidden ones are told by the pose of the others. `reads: pooled` paints from the
backbone's readout, so that what is painted has gone through what a consumer gets.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.batch import Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, in_float32
from ausl_dist.objectives.clip_mean import RunningSpread, loss_of_deviations, with_still_head
from ausl_dist.objectives.draws import uniform
from ausl_dist.objectives.layers import all_of, feed, learnt_tokens, resized, unpooling

# crops and mirror images are all the augmentation that MAE uses
MASKED = View(crop=(0.5, 0.875), flip=0.5)
SPREAD_SIDE = 32  # of the map of spreads, whatever the size of the images


class MaskedVideo(Objective):
    """Reconstruction error of the hidden patches of `frames` frames, `stride` apart; with
    `target: deviation` of all patches.
    """

    def __init__(
        self,
        *,
        feature_dim: int,
        map_dim: int | None = None,
        encoder: Literal["fill", "drop"] = "fill",
        reads: Literal["map", "pooled"] = "map",
        target: Literal["pixels", "deviation"] = "pixels",
        patch: int = 16,
        ratio: float = 0.75,
        tube: bool = False,
        normalise: bool = False,
        frames: int = 1,
        stride: int = 4,
        decoder_width: int = 512,
        decoder_layers: int = 4,
        decoder_heads: int = 8,
        view: View = MASKED,
    ) -> None:
        super().__init__()
        if encoder not in ("fill", "drop"):
            raise ValueError("masked_video: encoder must be fill or drop")
        if target not in ("pixels", "deviation"):
            raise ValueError("masked_video: target must be pixels or deviation")
        if target == "deviation" and (frames < 2 or encoder == "drop" or normalise):
            raise ValueError(
                "masked_video: target=deviation needs frames >= 2, encoder=fill and "
                "normalise=false"
            )
        if reads == "pooled" and encoder == "drop":
            raise ValueError("masked_video: reads=pooled needs encoder=fill")
        if patch < 4 or not 0 < ratio < 1 or frames < 1 or stride < 1:
            raise ValueError(
                "masked_video: need patch >= 4, 0 < ratio < 1, frames >= 1 and stride >= 1"
            )
        self.encoder, self.view, self.patch, self.ratio = encoder, view, patch, ratio
        self.tube, self.normalise = tube, normalise
        self.offsets = tuple(range(0, frames * stride, stride))
        self.target = target
        self.spread = RunningSpread(SPREAD_SIDE, SPREAD_SIDE) if target == "deviation" else None
        self.unpool, channels = unpooling(reads, feature_dim, map_dim)
        pixels = 3 * patch * patch
        self.paint: nn.Module = nn.Conv2d(channels, pixels, 1)
        if encoder == "drop":
            self.narrow = nn.Linear(channels, decoder_width)
            self.hidden_token = learnt_tokens(1, decoder_width)
            layer = nn.TransformerEncoderLayer(
                decoder_width,
                decoder_heads,
                4 * decoder_width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            self.decode = nn.TransformerEncoder(
                layer, decoder_layers, nn.LayerNorm(decoder_width), enable_nested_tensor=False
            )
            self.paint = nn.Linear(decoder_width, pixels)

    def needs(self) -> Needs:
        return Needs(views={self.view: self.offsets}, landmarks=self.target == "deviation")

    def forward(self, batch: BatchView) -> Loss:
        pixels = batch.pixels(self.view, self.offsets)  # B T C H W
        size = pixels.shape[-1]
        if size % self.patch or size == self.patch:
            raise ValueError(
                f"masked_video: patches of {self.patch} pixels do not tile images of {size}: "
                "set its patch"
            )
        hidden = self._hide(batch, size // self.patch)  # B T g g
        paint = self._fill_and_paint if self.encoder == "fill" else self._drop_and_paint
        painted = paint(batch, pixels, hidden)  # B T L P
        if self.target == "deviation":
            return self._loss_of_all(batch, pixels, painted)
        truth = self._patches(pixels)
        with in_float32(pixels):
            if self.normalise:
                truth = (truth - truth.mean(-1, keepdim=True)) / (
                    truth.var(-1, keepdim=True) + 1e-6
                ).sqrt()
            difference = painted.float() - truth  # B T L P
            absolute = self.encoder == "fill"
            error = (difference.abs() if absolute else difference.square()).mean(-1)
        # Every clip hides the same number of patches: a mean in each clip, then over clips, is
        # the mean over hidden patches.
        mask = hidden.flatten(2).float()
        return Loss(batch.mean((error * mask).sum((1, 2)) / mask.sum((1, 2))))

    def _loss_of_all(self, batch: BatchView, pixels: Tensor, painted: Tensor) -> Loss:
        """Squared error of patches B T L P against deviations, of clips with landmarks."""
        assert self.spread is not None
        landmarks = batch.landmarks(self.view, self.offsets)  # B T 68 2
        valid = torch.isfinite(landmarks).flatten(1).all(1)  # B
        mask = valid * batch.weight
        with in_float32(pixels):
            moved = with_still_head(pixels, landmarks.float().nan_to_num())
            left = moved - moved.mean(1, keepdim=True)
            squares = resized(left.square().mean((1, 2)), (SPREAD_SIDE, SPREAD_SIDE))
            spread = self.spread(squares, mask)[None]  # 1 s s
            spread = resized(spread, (pixels.shape[-2], pixels.shape[-1]))
            truth = self._patches(left / spread)
            loss = loss_of_deviations(painted.float(), truth, mask)
        loss.logs["usable"] = batch.mean(valid.float())
        return loss

    def after_step(self, taken: bool) -> None:
        if self.spread is not None:
            self.spread.after_step(taken)

    def _hide(self, batch: BatchView, grid: int) -> Tensor:
        """Which of the g x g patches of each frame are hidden, the same number in each: bool B
        T g g.
        """
        frames, cells = len(self.offsets), grid * grid
        count = min(max(round(self.ratio * cells), 1), cells - 1)
        noise = uniform(
            batch, f"{self.label}/hidden", 1 if self.tube else frames, cells
        ).expand(-1, frames, -1)
        return (noise.argsort(-1).argsort(-1) < count).unflatten(-1, (grid, grid))

    def _fill_and_paint(self, batch: BatchView, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Patches B T L P painted from frames whose hidden patches are of mean colour."""
        # B T 1 H W
        hole = hidden.repeat_interleave(self.patch, -1).repeat_interleave(self.patch, -2)[
            :, :, None
        ]
        features = batch.encode(torch.where(hole, 0.0, pixels))
        # B T D h w
        maps = features.maps if self.unpool is None else feed(self.unpool, features.pooled)
        # BT 3 h*patch w*patch
        image = F.pixel_shuffle(feed(self.paint, maps.flatten(0, 1)), self.patch)
        # a backbone whose cells are not of `patch` pixels
        if image.shape[-2:] != pixels.shape[-2:]:
            image = resized(image.float(), (pixels.shape[-2], pixels.shape[-1]))
        return self._patches(image.unflatten(0, maps.shape[:2]))

    def _drop_and_paint(self, batch: BatchView, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Patches B T L P painted by the decoder from the tokens of visible patches."""
        # B T D 1 L' -> B T L' D
        tokens = batch.encode(pixels, ~hidden).maps.squeeze(3).transpose(2, 3)
        clips, frames, grid, _ = hidden.shape
        narrow = feed(self.narrow, tokens)
        everywhere = (
            all_of(self.hidden_token).to(narrow.dtype).expand(clips, frames, grid * grid, -1)
        )
        # visible tokens are in reading order
        full = everywhere.masked_scatter(~hidden.flatten(2)[..., None], narrow)
        full = full + _positions(frames, grid, full.shape[-1]).to(full)
        decoded = self.decode(full.flatten(1, 2))  # B T*L W
        return feed(self.paint, decoded).unflatten(1, (frames, grid * grid))

    def _patches(self, frames: Tensor) -> Tensor:
        """Frames B T C H W as patches B T L P, in reading order."""
        patches = F.pixel_unshuffle(frames, self.patch)  # B T P g g
        return patches.flatten(3).transpose(2, 3)


def _positions(frames: int, grid: int, width: int) -> Tensor:
    """Fixed sine and cosine codes of (frame, row, column), 1 T L W; a quarter of the width for
    time, the rest for the two directions.
    """
    parts = []
    for axis, share in zip(
        torch.meshgrid(*(torch.arange(n) for n in (frames, grid, grid)), indexing="ij"),
        (2, 3, 3),
        strict=True,
    ):
        half = width * share // 16
        frequency = 10000.0 ** (-torch.arange(half) / half)
        angle = axis.flatten()[:, None] * frequency
        parts += [angle.sin(), angle.cos()]
    codes = torch.cat(parts, 1)
    return F.pad(codes, (0, width - codes.shape[1])).unflatten(0, (1, frames, grid * grid))

"""AVF-MAE++ (Wu et al., CVPR 2025): the video encoder of an audio-visual masked auto-encoder of
faces, which looks within regions and from region to region.

    AVF-MAE++_huge.pth of Conna/AVF-MAE on Hugging Face
    {"model": {"encoder.patch_embed.proj.weight", "encoder.lg_region_tokens",
    "encoder.blocks.0.first_attn.q_bias", …}}

16 frames of 160 pixels, every fourth (fact of its scripts), by ImageNet's statistics, in tubelets
of 2; regions of 2 x 5 x 10 tubelets, each with a token of its own. In a block a region attends to
itself, the regions' tokens to each other, all tubelets to these, and these to all tubelets. Audio
encoder, fusion and decoders are left out: no sound is at hand where single frames are judged, so
this is what its eyes alone are worth.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.evaluate.adapters.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ForeignSettings,
    depth_of,
    entrant,
    load_exactly,
    read_tensors,
)
from ausl_dist.evaluate.adapters.video_tokens import Mlp, VideoTokens
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.evaluate.features.windows import Window

WINDOW = Window(frames=16, step=4)
SIDE = 160  # pixels
REGION = (2, 5, 10)  # tubelets in time, height, width
HEAD_WIDTH = 64
PREFIX = "encoder."


class RegionAttention(nn.Module):
    """Attention of tokens to others, or to themselves; the key has no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        key, value = self.kv(others).chunk(2, -1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q(tokens) + self.q_bias, key, value + self.v_bias)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return found


class RegionBlock(nn.Module):
    """Within regions, between their tokens, from these to tubelets and back."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        for step in ("first", "second", "third", "fourth"):
            self.add_module(f"{step}_attn", RegionAttention(width))
            self.add_module(f"{step}_attn_norm0", nn.LayerNorm(width, 1e-6))
        for step in ("third", "fourth"):
            self.add_module(f"{step}_attn_norm1", nn.LayerNorm(width, 1e-6))
        self.norm2, self.mlp = nn.LayerNorm(width, 1e-6), Mlp(width, hidden)

    def forward(self, regions: Tensor) -> Tensor:
        """N R 1+S D: of each region its token, then its tubelets."""
        within = regions.flatten(0, 1)
        within = within + self._attend("first", within)
        heads, local = within[:, 0], within[:, 1:]
        heads = heads.unflatten(0, regions.shape[:2])  # N R D
        local = local.unflatten(0, regions.shape[:2]).flatten(1, 2)  # N RS D
        heads = heads + self._attend("second", heads)
        local = local + self._attend("third", local, heads)
        heads = heads + self._attend("fourth", heads, local)
        local = local.unflatten(1, (regions.shape[1], -1))
        joined = torch.cat([heads[:, :, None], local], 2)
        found: Tensor = joined + self.mlp(self.norm2(joined))
        return found

    def _attend(self, step: str, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        normed = self.get_submodule(f"{step}_attn_norm0")(tokens)
        seen = normed if others is None else self.get_submodule(f"{step}_attn_norm1")(others)
        found: Tensor = self.get_submodule(f"{step}_attn")(normed, seen)
        return found


class AvfMae(VideoTokens):
    """The video encoder of AVF-MAE++."""

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        hidden: int,
        tubelet: int,
        patch: int,
        regions: int,
        window: Window,
    ) -> None:
        super().__init__(width=width, tubelet=tubelet, patch=patch, window=window)
        self.blocks = nn.ModuleList(RegionBlock(width, hidden) for _ in range(depth))
        self.lg_region_tokens = nn.Parameter(torch.zeros(regions, width))
        self.norm = nn.LayerNorm(width, 1e-6)

    def encode(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        tokens = tokens + sines(tokens.shape[1], self.dim).to(tokens)
        (nt, nh, nw), (t, h, w) = (
            tuple(side // part for side, part in zip(grid, REGION, strict=True)),
            REGION,
        )
        # N (nt t nh h nw w) D -> N (nt nh nw) (t h w) D
        cut = tokens.unflatten(1, (nt, t, nh, h, nw, w)).permute(0, 1, 3, 5, 2, 4, 6, 7)
        cut = cut.flatten(4, 6).flatten(1, 3)
        own = self.lg_region_tokens.expand(len(tokens), -1, -1)[:, :, None]
        regions = torch.cat([own, cut], 2)
        for block in self.blocks:
            regions = block(regions)
        local = regions[:, :, 1:].unflatten(2, REGION).unflatten(1, (nt, nh, nw))
        found: Tensor = self.norm(local.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(1, 6))
        return found


def sines(count: int, width: int) -> Tensor:
    """Positions 1 N D of Vaswani et al. (2017), sine and cosine in turns, never trained."""
    rate = 10000.0 ** (-2 * (np.arange(width) // 2) / width)
    angle = np.arange(count)[:, None] * rate
    angle[:, 0::2], angle[:, 1::2] = np.sin(angle[:, 0::2]), np.cos(angle[:, 1::2])
    return torch.from_numpy(angle).float()[None]


def recognises(names: set[str]) -> bool:
    """Whether tensors of these names are an AVF-MAE++."""
    return {"encoder.lg_region_tokens", "encoder.blocks.0.fourth_attn.q.weight"} <= names


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The video encoder; ValueError when the file is of another layout, or another window is
    asked for than its positions fit.
    """
    found = read_tensors(settings.file)
    if not recognises(set(found)):
        raise ValueError(
            f"{settings.weights} is no AVF-MAE++: it has no encoder.lg_region_tokens and "
            "encoder.blocks.0.fourth_attn"
        )
    tensors = under_our_names(found)
    width, _, tubelet, patch, _ = tensors["patch_embed.weight"].shape
    window = settings.window or WINDOW
    regions = len(tensors["lg_region_tokens"])
    cells = SIDE // patch
    wanted = window.frames // tubelet * cells * cells // (REGION[0] * REGION[1] * REGION[2])
    if regions != wanted:
        raise ValueError(
            f"{settings.weights} has {regions} regions, {window.frames} frames of {SIDE} pixels "
            f"are {wanted}: its window is of {WINDOW.frames} frames"
        )
    options = {
        "width": width,
        "depth": depth_of(tensors),
        "hidden": len(tensors["blocks.0.mlp.fc1.weight"]),
        "tubelet": tubelet,
        "patch": patch,
        "regions": regions,
    }

    def build() -> AvfMae:
        return AvfMae(**options, window=window)

    net = build()
    load_exactly(net, tensors, settings)
    return entrant(settings, build, net, image_size=SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def under_our_names(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The video encoder's tensors."""
    unused = ("head.", "fc_norm.", "pos_embed")
    return {
        name.removeprefix(PREFIX).replace("patch_embed.proj.", "patch_embed."): value
        for name, value in found.items()
        if name.startswith(PREFIX) and not name.removeprefix(PREFIX).startswith(unused)
    }

"""MARLIN, a masked auto-encoder of face video (Cai et al., CVPR 2023): vision transformer over 16
frames in tubelets of 2, pixels in 0-1.

    marlin_vit_{small,base,large}_ytf.encoder.pt of its releases, or the whole marlin_vit_….full.pt
    {"encoder.patch_embedding.projection.weight", "encoder.pos_embedding.emb",
    "encoder.blocks.0.attn.q_bias", …}

Every second frame is shown (fact of its configuration).
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ausl_dist.evaluate.adapters.base import (
    ForeignSettings,
    depth_of,
    entrant,
    load_exactly,
    read_tensors,
)
from ausl_dist.evaluate.adapters.video_tokens import VideoTokens
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.evaluate.features.windows import Window
from ausl_dist.model.backbones import import_timm

WINDOW = Window(frames=16, step=2)
HEAD_WIDTH = 64
LINEAR = re.compile(r"mlp\.layers\.([01])\.linear")


class Marlin(VideoTokens):
    """MARLIN's encoder under timm's names of blocks."""

    def __init__(
        self, *, width: int, depth: int, tubelet: int, patch: int, tokens: int, window: Window
    ) -> None:
        super().__init__(width=width, tubelet=tubelet, patch=patch, window=window)
        import_timm()
        from timm.models.vision_transformer import Block

        self.pos_embedding: Tensor
        self.register_buffer(
            "pos_embedding", torch.zeros(1, tokens, width)
        )  # sines, never trained
        heads = max(1, width // HEAD_WIDTH)
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def encode(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        tokens = tokens + self.pos_embedding
        for block in self.blocks:
            tokens = block(tokens)
        found: Tensor = self.norm(tokens)
        return found


def recognises(names: set[str]) -> bool:
    """Whether tensors of these names are a MARLIN."""
    return any(name.endswith("patch_embedding.projection.weight") for name in names)


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The encoder of a MARLIN checkpoint, whole or encoder alone; ValueError when it is of
    another layout.
    """
    tensors = under_our_names(read_tensors(settings.file), settings)
    width, _, tubelet, patch, _ = tensors["patch_embed.weight"].shape
    tokens = tensors["pos_embedding"].shape[1]
    window = settings.window or WINDOW
    if window.frames != WINDOW.frames:
        raise ValueError(
            f"MARLIN's positions are those of {WINDOW.frames} frames, not of {window.frames}: "
            "window.step alone may be set"
        )
    options: dict[str, Any] = {
        "width": width,
        "depth": depth_of(tensors),
        "tubelet": tubelet,
        "patch": patch,
        "tokens": tokens,
    }

    def build() -> Marlin:
        return Marlin(**options, window=window)

    net = build()
    load_exactly(net, tensors, settings)
    side = patch * round((tokens * tubelet // WINDOW.frames) ** 0.5)
    return entrant(
        settings, build, net, image_size=side, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


def under_our_names(
    tensors: Mapping[str, Tensor], settings: ForeignSettings
) -> dict[str, Tensor]:
    """The encoder's tensors; its separate biases of query and value become one with a zero bias
    of the key.
    """
    other = ("decoder.", "enc_dec_proj.")
    encoder = {
        name.removeprefix("encoder."): value
        for name, value in tensors.items()
        if not name.startswith(other)
    }
    result: dict[str, Tensor] = {}
    for name, value in encoder.items():
        if name.endswith("attn.q_bias"):
            query_key_value = [
                value,
                torch.zeros_like(value),
                encoder[name.replace("q_bias", "v_bias")],
            ]
            result[name.replace("q_bias", "qkv.bias")] = torch.cat(query_key_value)
        elif not name.endswith("attn.v_bias"):
            name = LINEAR.sub(lambda match: f"mlp.fc{int(match[1]) + 1}", name)
            name = name.replace("patch_embedding.projection", "patch_embed")
            result[name.replace("pos_embedding.emb", "pos_embedding")] = value
    needed = {"patch_embed.weight", "pos_embedding", "blocks.0.attn.qkv.bias"}
    if not needed <= result.keys():
        raise ValueError(
            f"{settings.weights} is no MARLIN encoder: it has no patch_embedding, "
            "pos_embedding or blocks.0.attn.q_bias"
        )
    return result

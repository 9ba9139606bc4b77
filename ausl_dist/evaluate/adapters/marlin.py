"""MARLIN, a masked auto-encoder of video (Cai et al., CVPR 2023): vision transformer over 16
frames in tubelets of 2, pixels in 0-1.

    {"encoder.patch_embedding.projection.weight", "encoder.pos_embedding.emb",
    "encoder.blocks.0.attn.q_bias", …}

The protocols here ask for features of single frames, so each frame is shown to it as a still
video: what it knows of motion is not measured.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ausl_dist.evaluate.adapters.base import (
    ForeignSettings,
    entrant,
    load_exactly,
    read_tensors,
)
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.model.backbones import import_timm

FRAMES = 16
HEAD_WIDTH = 64
LINEAR = re.compile(r"mlp\.layers\.([01])\.linear")


class StillVideo(nn.Module):
    """MARLIN's encoder under timm's names of blocks, on frames N 3 H W that stand still."""

    def __init__(
        self, *, width: int, depth: int, tubelet: int, patch: int, tokens: int
    ) -> None:
        super().__init__()
        import_timm()
        from timm.models.vision_transformer import Block

        self.dim = width
        self.patch_embedding = nn.Conv3d(
            3, width, (tubelet, patch, patch), (tubelet, patch, patch)
        )
        self.pos_embedding: Tensor
        self.register_buffer(
            "pos_embedding", torch.zeros(1, tokens, width)
        )  # sines, never trained
        heads = max(1, width // HEAD_WIDTH)
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, norm_layer=nn.LayerNorm) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    @property
    def net(self) -> nn.Module:
        return self

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for layer decay, as timm's networks name them."""
        return {
            "stem": r"^patch_embedding|^pos_embedding",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled N D and map N D h w (mean over time) of images N 3 H W."""
        video = images[:, :, None].expand(-1, -1, FRAMES, -1, -1)
        embedded = self.patch_embedding(video)  # N D t h w
        tokens = embedded.flatten(2).transpose(1, 2) + self.pos_embedding
        for block in self.blocks:
            tokens = block(tokens)
        maps = self.norm(tokens).transpose(1, 2).unflatten(2, embedded.shape[2:]).mean(2)
        return self.norm(tokens.mean(1)), maps


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The encoder of a MARLIN checkpoint, whole or encoder alone; ValueError when it is of
    another layout.
    """
    tensors = under_our_names(read_tensors(settings.file), settings)
    width, _, tubelet, patch, _ = tensors["patch_embedding.weight"].shape
    tokens = tensors["pos_embedding"].shape[1]
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))

    def build() -> StillVideo:
        return StillVideo(width=width, depth=depth, tubelet=tubelet, patch=patch, tokens=tokens)

    net = build()
    load_exactly(net, tensors, settings)
    side = patch * round((tokens * tubelet // FRAMES) ** 0.5)
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
            result[
                name.replace("patch_embedding.projection", "patch_embedding").replace(
                    "pos_embedding.emb", "pos_embedding"
                )
            ] = value
    if (
        not {"patch_embedding.weight", "pos_embedding", "blocks.0.attn.qkv.bias"}
        <= result.keys()
    ):
        raise ValueError(
            f"{settings.weights} is no MARLIN encoder: it has no patch_embedding, "
            "pos_embedding or blocks.0.attn.q_bias"
        )
    return result

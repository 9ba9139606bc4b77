"""V-JEPA 2 (Assran et al. 2025) and 2.1 (2026): vision transformers of video with rotary positions
in time, height and width.

    vjepa2_1_vit{b,l}_dist_vitG_384.pt                        2.1, of its authors: "ema_encoder"
    vjepa2_1_vit{g,G}_384.pt                                  2.1: "target_encoder"
    vitl.pt, vith.pt, vitg.pt, vitg-384.pt                    2, of its authors: the same
    facebook/vjepa2-vitl-fpc64-256, its model.safetensors     2, as Hugging Face has it

In 2.1 positions in the picture are stretched to the 16 x 16 cells of its first training, the two
numbers that are turned by one angle lie side by side, and an offset says that this is video; the
last of its norms is the one of the output. Its other norms, and the embedding of single pictures,
are not used. Pixels by ImageNet's statistics. The window is ours: 16 frames, four a second in a
corpus of 25.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ausl_dist.evaluate.adapters.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ForeignSettings,
    depth_of,
    entrant,
    load_exactly,
    read_tensors,
    renamed,
)
from ausl_dist.evaluate.adapters.video_tokens import Attention, Mlp, VideoTokens
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.evaluate.features.windows import Window

WINDOW = Window(frames=16, step=6)
HEADS = {1280: 16}  # ViT-H; all others have heads of 64
TRAINED_CELLS = 16  # a side, of 256 pixels
SIDE, SIDE_2_1 = 256, 384  # pixels
FROM_HUGGING_FACE = (
    (r"^encoder\.embeddings\.patch_embeddings\.proj\.", "patch_embed."),
    (r"^encoder\.layer\.", "blocks."),
    (r"^encoder\.layernorm\.", "norm."),
    (r"\.attention\.proj\.", ".attn.proj."),
)


class Rotation:
    """Turns queries and keys N heads L d by where their tokens lie; what three axes do not fill
    of d stays.
    """

    def __init__(
        self, grid: tuple[int, int, int], width: int, like: Tensor, *, stretched: bool
    ) -> None:
        axis = 2 * (width // 3 // 2)
        places = [torch.arange(side, dtype=torch.float32) for side in grid]
        if stretched:
            places[1:] = [
                place * (TRAINED_CELLS - 1) / max(len(place) - 1, 1) for place in places[1:]
            ]
        rate = 10000.0 ** (-torch.arange(axis // 2, dtype=torch.float32) / (axis / 2))
        angles = [
            (place.flatten()[:, None] * rate)  # L d/6
            for place in torch.meshgrid(*places, indexing="ij")
        ]
        # an angle for each number: two of a pair side by side, or both halves alike
        each = [
            angle.repeat_interleave(2, 1) if stretched else angle.repeat(1, 2)
            for angle in angles
        ]
        rest = torch.zeros(len(each[0]), width - 3 * axis)
        angle = torch.cat([*each, rest], 1).to(like.device)
        self.cosine, self.sine = angle.cos(), angle.sin()

    def __call__(self, x: Tensor) -> Tensor:
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        swapped = torch.stack((-second, first), -1).flatten(-2)
        return x * self.cosine + swapped * self.sine


class RotaryBlock(nn.Module):
    """Attention with rotary positions, then the two linear layers."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, hidden)

    def forward(self, tokens: Tensor, turned: Rotation) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens), turned)
        found: Tensor = tokens + self.mlp(self.norm2(tokens))
        return found


class VJepa(VideoTokens):
    """The encoder of V-JEPA 2, or of 2.1 with `of_2_1`."""

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        hidden: int,
        tubelet: int,
        patch: int,
        window: Window,
        of_2_1: bool,
    ) -> None:
        super().__init__(width=width, tubelet=tubelet, patch=patch, window=window)
        self.heads, self.of_2_1 = HEADS.get(width, max(1, width // 64)), of_2_1
        self.blocks = nn.ModuleList(
            RotaryBlock(width, self.heads, hidden) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, 1e-6)
        self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, width)) if of_2_1 else None

    def encode(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        if self.video_mod_embed is not None:
            tokens = tokens + self.video_mod_embed
        turned = Rotation(grid, self.dim // self.heads, tokens, stretched=self.of_2_1)
        for block in self.blocks:
            tokens = block(tokens, turned)
        found: Tensor = self.norm(tokens)
        return found


def recognises(names: set[str]) -> bool:
    """Whether tensors of these names are a V-JEPA 2 or 2.1."""
    bare = {name.removeprefix("backbone.") for name in names}
    own = {"patch_embed.proj.weight", "blocks.0.attn.qkv.bias"} <= bare
    return (own and "cls_token" not in bare) or any(
        name.startswith("encoder.embeddings.patch_embeddings.proj") for name in bare
    )


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The encoder; ValueError when the file is of another layout."""
    found = read_tensors(settings.file)
    if not recognises(set(found)):
        raise ValueError(
            f"{settings.weights} is no V-JEPA 2: it has no patch_embed and "
            "blocks.0.attn.qkv.bias of video, nor encoder.embeddings"
        )
    tensors = under_our_names(found)
    width, _, tubelet, patch, _ = tensors["patch_embed.weight"].shape
    of_2_1 = "video_mod_embed" in tensors
    options = {
        "width": width,
        "depth": depth_of(tensors),
        "hidden": len(tensors["blocks.0.mlp.fc1.weight"]),
        "tubelet": tubelet,
        "patch": patch,
    }

    def build() -> VJepa:
        return VJepa(**options, window=settings.window or WINDOW, of_2_1=of_2_1)

    net = build()
    load_exactly(net, tensors, settings)
    return entrant(
        settings,
        build,
        net,
        image_size=settings.image_size or (SIDE_2_1 if of_2_1 else SIDE),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def under_our_names(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors, whichever of the releases they are of."""
    tensors: dict[str, Tensor] = {}
    last = max((name for name in found if "norms_block." in name), key=_norm_number, default="")
    last_norm = last.rsplit(".", 1)[0]
    for name, value in found.items():
        bare = name.removeprefix("backbone.")
        if bare.startswith(("predictor.", "patch_embed_img.")) or bare in (
            "img_mod_embed",
            "pos_embed",
        ):
            continue
        if "norms_block." in bare:
            if name.startswith(f"{last_norm}."):
                tensors[f"norm.{bare.rsplit('.', 1)[1]}"] = value
            continue
        bare = renamed(bare, FROM_HUGGING_FACE)
        tensors[bare.replace("patch_embed.proj.", "patch_embed.")] = value
    return _joined(tensors)


def _norm_number(name: str) -> int:
    return int(name.split("norms_block.")[1].split(".")[0])


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of Hugging Face's as one."""
    parts = ("query", "key", "value")
    for name in [name for name in tensors if ".attention.query." in name]:
        own = [tensors.pop(name.replace("query", part)) for part in parts]
        tensors[name.replace("attention.query", "attn.qkv")] = torch.cat(own)
    return tensors

"""Masked auto-encoders in the layout of He et al.'s code: MAE, MAE-Face, FMAE, before or after
fine-tuning.

    mae_pretrain_vit_{base,large,huge}.pth of facebookresearch/mae; the three checkpoints that the
    README of forever208/FMAE-IAT links (ViT-small, base, large); those of MAE-Face
    {"model": {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight", …,
    "norm" or "fc_norm", "decoder_…"}}

Width, depth, patch and image size are read from the shapes. A checkpoint with `norm` gives the
class token, one with `fc_norm` (fine-tuned) the mean over patches, as it was trained.
"""

from ausl_dist.evaluate.adapters.base import (
    ForeignSettings,
    entrant,
    load_exactly,
    read_tensors,
)
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.model.backbones import Backbone, import_timm

HEAD_WIDTH = 64  # of ViT-S, B, L
NOT_ENCODER = ("decoder_", "mask_token", "head.", "AU_head.", "ID_head.")


NEEDED = {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}


def recognises(names: set[str]) -> bool:
    """Whether tensors of these names are a masked auto-encoder of pictures."""
    return names >= NEEDED


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The encoder of the checkpoint; ValueError when it is of another layout."""
    tensors = {
        name: value
        for name, value in read_tensors(settings.file).items()
        if not name.startswith(NOT_ENCODER)
    }
    if not recognises(set(tensors)):
        raise ValueError(
            f"{settings.weights} is no masked auto-encoder: "
            f"it has no {', '.join(sorted(NEEDED - tensors.keys()))}"
        )
    width, patch = (
        tensors["patch_embed.proj.weight"].shape[0],
        tensors["patch_embed.proj.weight"].shape[-1],
    )
    grid = round((tensors["pos_embed"].shape[1] - 1) ** 0.5)
    mean_of_patches = "fc_norm.weight" in tensors
    options = {
        "img_size": grid * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": 1
        + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
        "num_heads": max(1, width // HEAD_WIDTH),
        "num_classes": 0,
        "global_pool": "avg" if mean_of_patches else "token",
        "fc_norm": mean_of_patches,
    }

    def build() -> Backbone:
        return Backbone(import_timm().models.VisionTransformer(**options))

    backbone = build()
    load_exactly(backbone.net, tensors, settings)
    return entrant(
        settings,
        build,
        backbone,
        image_size=grid * patch,
        mean=settings.pixel_mean,
        std=settings.pixel_std,
    )

"""The network of a bundle: model.safetensors under timm's names, and the config.json from which
timm, or we, build it again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ausl_dist.model.backbones import Backbone, BackboneSettings, build_backbone
from ausl_dist.model.video_network import VIDEO_NETWORKS
from ausl_dist.release.preprocessing import Preprocessing
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.version import __version__

FORMAT = 1  # of the whole bundle
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


def load_weights(settings: BackboneSettings, weights: Path) -> Backbone:
    """The backbone of these settings with exactly the tensors of a safetensors file.

    Raises ValueError when they do not fit.
    """
    try:
        tensors = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} is not a readable safetensors file: {error}") from error
    return load_tensors(settings, tensors, str(weights))


def load_tensors(
    settings: BackboneSettings, tensors: Mapping[str, torch.Tensor], where: str
) -> Backbone:
    """The backbone of these settings with exactly these tensors, in eval mode.

    Raises ValueError when they do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(settings)
    try:
        backbone.net.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{where} does not hold the weights of {settings.name}: {error}"
        ) from error
    return backbone.eval()


def timm_config(
    settings: BackboneSettings, backbone: Backbone, preprocessing: Preprocessing
) -> dict[str, Any]:
    """config.json as timm and its hub mixin read it, with our own section for what timm does not
    know.

    A network that is not timm's gets our section alone: better no promise than one that fails at
    `timm.create_model`.
    """
    own = {
        "format": FORMAT,
        "version": __version__,
        "backbone": {"name": settings.name, "image_size": settings.image_size},
        "preprocessing_sha256": preprocessing.digest,
    }
    if settings.name in VIDEO_NETWORKS:
        return {"num_features": backbone.dim, "ausl_dist": own}
    net = backbone.net
    known: Mapping[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    size = [3, settings.image_size, settings.image_size]
    return {
        "architecture": settings.name,
        "num_classes": 0,
        "num_features": backbone.dim,
        "global_pool": _pool_of(net),
        **({"model_args": {"img_size": settings.image_size}} if _has_fixed_size(net) else {}),
        "pretrained_cfg": {
            "tag": "ausl_dist",
            "custom_load": False,
            "input_size": size,
            "fixed_input_size": _has_fixed_size(net),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(PIXEL_MEAN),
            "std": list(PIXEL_STD),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": known.get("first_conv"),
            "classifier": known.get("classifier"),
        },
        "ausl_dist": own,
    }


def _has_fixed_size(net: torch.nn.Module) -> bool:
    """Whether the network was built for one image size (transformers), which timm must be told."""
    return hasattr(net, "patch_embed") and hasattr(net.patch_embed, "img_size")


def _pool_of(net: torch.nn.Module) -> str:
    pool = getattr(net, "global_pool", None)
    return pool if isinstance(pool, str) else str(getattr(pool, "pool_type", "avg"))

"""The network of a bundle: model.safetensors under timm's names, readout.safetensors where the
readout has weights, and the config.json from which timm, or we, build it again.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ausl_dist.files import sha256_of
from ausl_dist.model.backbones import (
    OWN_NETWORKS,
    READOUT,
    Backbone,
    BackboneSettings,
    build_backbone,
)
from ausl_dist.model.bounded import TooManyWeights, at_most
from ausl_dist.release.preprocessing import Preprocessing
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.version import __version__

FORMAT = 1  # of the whole bundle
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
# a network may hold tables beside what is stored of it, and a classifier before it is dropped
SPARE_NUMBERS = 1 << 25
READOUT_NAME = "readout.safetensors"  # not there where the readout has no weights


def weight_files(backbone: Backbone) -> dict[str, dict[str, torch.Tensor]]:
    """The files of a backbone's weights by name: tensors by name, in order."""
    network: dict[str, torch.Tensor] = {}
    readout: dict[str, torch.Tensor] = {}
    for name, tensor in sorted(backbone.weights().items()):
        is_readout = name.startswith(READOUT)
        (readout if is_readout else network)[name.removeprefix(READOUT)] = tensor.contiguous()
    return {WEIGHTS_NAME: network, **({READOUT_NAME: readout} if readout else {})}


def weights_sha256(folder: Path) -> str:
    """The identity of the weights in a bundle: that of the network's file, or of it and the
    readout's.
    """
    own = sha256_of(folder / WEIGHTS_NAME)
    if not (folder / READOUT_NAME).is_file():
        return own
    return hashlib.sha256(f"{own} {sha256_of(folder / READOUT_NAME)}".encode()).hexdigest()


def load_weights(settings: BackboneSettings, weights: Path) -> Backbone:
    """The backbone of these settings with exactly the tensors of a safetensors file, and of the
    readout's beside it.

    Raises ValueError when they do not fit.
    """
    tensors = _read(weights)
    readout = weights.with_name(READOUT_NAME)
    if readout.is_file():
        tensors |= {READOUT + name: tensor for name, tensor in _read(readout).items()}
    return load_tensors(settings, tensors, str(weights))


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def load_tensors(
    settings: BackboneSettings, tensors: Mapping[str, torch.Tensor], where: str
) -> Backbone:
    """The backbone of these settings with exactly these tensors, in eval mode.

    Raises ValueError when they do not fit.
    """
    stored = sum(tensor.numel() for tensor in tensors.values())
    try:
        with torch.random.fork_rng(devices=[]), at_most(2 * stored + SPARE_NUMBERS):
            backbone = build_backbone(settings)
        backbone.load_weights(tensors)
    except (RuntimeError, TooManyWeights) as error:
        raise ValueError(
            f"{where} does not hold the weights of {settings.name}: {error}"
        ) from error
    return backbone.eval()


def timm_config(
    settings: BackboneSettings, backbone: Backbone, preprocessing: Preprocessing
) -> dict[str, Any]:
    """config.json as timm and its hub mixin read it, with our own section for what timm does
    not know.

    A network that is not timm's gets our section alone: better no promise than one that fails
    at `timm.create_model`.
    """
    own = {
        "format": FORMAT,
        "version": __version__,
        "backbone": _own_settings(settings),
        "preprocessing_sha256": preprocessing.digest,
    }
    if settings.name in OWN_NETWORKS:
        return {"num_features": backbone.dim, "ausl_dist": own}
    net = backbone.net
    known: Mapping[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
    size = [3, settings.image_size, settings.image_size]
    return {
        "architecture": settings.name,
        "num_classes": 0,
        "num_features": backbone.map_dim,
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


def _own_settings(settings: BackboneSettings) -> dict[str, Any]:
    """What builds the backbone again, and nothing that is a default."""
    bare = settings.bare()
    own = {"name": bare.name, "image_size": bare.image_size}
    read = {} if bare.readout.kind == "mean" else {"readout": dataclasses.asdict(bare.readout)}
    return {**own, **read}


def _has_fixed_size(net: torch.nn.Module) -> bool:
    """Whether the network was built for one image size (transformers), which timm must be told."""
    return hasattr(net, "patch_embed") and hasattr(net.patch_embed, "img_size")


def _pool_of(net: torch.nn.Module) -> str:
    pool = getattr(net, "global_pool", None)
    return pool if isinstance(pool, str) else str(getattr(pool, "pool_type", "avg"))

"""DINOv3 (Siméoni et al. 2025), the vision transformers: of its authors, and as Hugging Face has
them.

    dinov3_vits16_pretrain_lvd1689m-….pth         {"cls_token", "storage_tokens", "blocks.0.ls1.gamma", …}
    facebook/dinov3-vits16-pretrain-lvd1689m,     {"embeddings.register_tokens",
        its model.safetensors                      "layer.0.attention.q_proj.weight", …}

Both become timm's network of that layout, whose size is read from the shapes. Pooled is the class
token. Files of timm's own go by kind=timm name=vit_small_patch16_dinov3.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

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
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.model.backbones import Backbone, import_timm

HEAD_WIDTH = {384: 64, 768: 64, 1024: 64, 1280: 64, 4096: 128}
# beginnings and endings of what feature extraction has no use for
UNUSED = ("mask_token", "rope_embed", "local_cls_norm", "projectors.")
FROM_AUTHORS = (
    (r"^storage_tokens$", "reg_token"),
    (r"\.ls([12])\.gamma$", r".gamma_\1"),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
FROM_HUGGING_FACE = (
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.", ""),
    (r"^(?:model\.)?layer\.", "blocks."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)


def recognises(names: set[str]) -> bool:
    """Whether tensors of these names are a DINOv3 of either layout."""
    return bool({"storage_tokens", "embeddings.register_tokens"} & names)


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The network; ValueError when the file is of another layout."""
    found = read_tensors(settings.file)
    if not recognises(set(found)):
        raise ValueError(
            f"{settings.weights} is no DINOv3: it has neither storage_tokens nor "
            "embeddings.register_tokens"
        )
    tensors = _of_authors(found) if "storage_tokens" in found else _of_hugging_face(found)
    options = _shape_of(tensors)

    def build() -> Backbone:
        eva = import_timm().models.eva.Eva
        return Backbone(eva(img_size=settings.side, **options))

    backbone = build()
    load_exactly(backbone.net, tensors, settings)
    return entrant(
        settings,
        build,
        backbone,
        image_size=settings.side,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def _of_authors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {}
    for name, value in found.items():
        if name.startswith(UNUSED) or name.endswith(("bias_mask", ".periods")):
            continue
        name = renamed(name, FROM_AUTHORS)
        if name.endswith("attn.qkv.bias"):
            # that of the key is masked, and not trained
            query, _, values = value.chunk(3)
            tensors[name.replace("qkv.bias", "q_bias")] = query
            tensors[name.replace("qkv.bias", "v_bias")] = values
        else:
            tensors[name] = value
    return tensors


def _of_hugging_face(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    gated = any(".gate_proj." in name for name in found)
    inner = ((r"\.gate_proj\.", ".fc1_g."), (r"\.up_proj\.", ".fc1_x." if gated else ".fc1."))
    tensors = {}
    for name, value in found.items():
        if name.endswith("mask_token") or re.search(r"\.attention\.[kv]_proj\.weight$", name):
            continue
        name = renamed(name, (*FROM_HUGGING_FACE, *inner))
        if name.endswith(".attention.q_proj.weight"):
            others = [_sibling(found, name, part) for part in ("k_proj", "v_proj")]
            name = name.replace("attention.q_proj", "attn.qkv")
            value = torch.cat([value, *others])
        name = name.replace("attention.q_proj.bias", "attn.q_bias")
        tensors[name.replace("attention.v_proj.bias", "attn.v_bias")] = value
    return tensors


def _sibling(found: Mapping[str, Tensor], name: str, part: str) -> Tensor:
    """The weight of key or value of the same block as the query's, by its name of ours."""
    wanted = name.replace("blocks.", "layer.").replace("q_proj", part)
    value = found.get(wanted, found.get(f"model.{wanted}"))
    if value is None:
        raise ValueError(f"a DINOv3 without {wanted}")
    return value


def _shape_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    gated = "blocks.0.mlp.fc1_g.weight" in tensors
    hidden = tensors["blocks.0.mlp.fc2.weight"].shape[1]
    return {
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth_of(tensors),
        "num_heads": max(1, width // HEAD_WIDTH.get(width, 64)),
        "mlp_ratio": (hidden + 0.5) / width,  # timm rounds down
        "swiglu_mlp": gated,
        "swiglu_align_to": 1,  # gate and value as two layers
        "qkv_bias": "blocks.0.attn.q_bias" in tensors,
        "num_reg_tokens": tensors["reg_token"].shape[1],
        "init_values": 1e-5,
        "rope_type": "dinov3",
        "rope_temperature": 100,
        "rope_rotate_half": True,
        "use_rot_pos_emb": True,
        "use_abs_pos_emb": False,
        "use_fc_norm": False,
        "dynamic_img_size": True,
        "global_pool": "token",
        "num_classes": 0,
        "norm_layer": partial(nn.LayerNorm, eps=1e-5),
    }

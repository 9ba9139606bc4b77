"""Each published layout, on random weights: features are those of the source's own forward pass
where `transformers` has it, else those of its arithmetic written out once more.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ausl_dist.evaluate.adapters import ForeignSettings, kind_of, open_foreign
from ausl_dist.evaluate.features.windows import Window
from ausl_dist.model.backbones import import_timm
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    import_timm()  # mends torchvision for transformers


def ours(raw: Tensor) -> Tensor:
    """Pixels in 0-1 as our batches have them."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return (raw - mean) / std


def theirs(raw: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    return (raw - mean) / std


def randomise(net: torch.nn.Module) -> dict[str, Tensor]:
    """Every weight drawn at random, so that none is left out unseen; the tensors by name."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter) + 0.05)
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("gated", [False, True], ids=["mlp", "gated"])
def test_dinov3_gives_what_transformers_gives(gated: bool, tmp_path: Path) -> None:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=192,
        num_register_tokens=3,
        image_size=48,
        patch_size=16,
        use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
    )
    own = DINOv3ViTModel(config).eval()
    save_file(randomise(own), tmp_path / "model.safetensors")
    settings = ForeignSettings(
        "auto", weights=str(tmp_path / "model.safetensors"), image_size=48
    )
    assert kind_of(settings) == "dinov3"
    raw = torch.rand(2, 3, 48, 48)
    pooled, maps = open_foreign(settings).backbone(ours(raw))
    with torch.inference_mode():
        found = own(theirs(raw)).last_hidden_state
    torch.testing.assert_close(pooled, found[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        maps.flatten(2).transpose(1, 2), found[:, 4:], atol=1e-4, rtol=1e-4
    )


def test_dinov3_of_its_authors_is_the_same_network(tmp_path: Path) -> None:
    """Their names hold one matrix for query, key and value, and a bias of the key that is not
    used; timm's own reading of them is the measure.
    """
    timm = import_timm()
    net = timm.create_model("vit_small_patch16_dinov3_qkvb", img_size=32, num_classes=0)
    tensors = randomise(net.eval())
    authors = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.zeros(16)}
    for name, value in tensors.items():
        if name.endswith("attn.q_bias"):
            values = tensors[name.replace("q_bias", "v_bias")]
            key = torch.full_like(value, torch.nan)
            authors[name.replace("q_bias", "qkv.bias")] = torch.cat([value, key, values])
            authors[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(3 * len(value))
        elif not name.endswith("attn.v_bias"):
            name = name.replace("reg_token", "storage_tokens")
            authors[name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = (
                value
            )
    torch.save(authors, tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth")
    settings = ForeignSettings(
        "dinov3",
        weights=str(tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth"),
        image_size=32,
    )
    raw = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        found = net.forward_features(theirs(raw))
    torch.testing.assert_close(
        open_foreign(settings).backbone(ours(raw))[0], found[:, 0], atol=1e-4, rtol=1e-4
    )


def test_vjepa_2_gives_what_transformers_gives(tmp_path: Path) -> None:
    from transformers import VJEPA2Config, VJEPA2Model

    config = VJEPA2Config(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        crop_size=48,
        frames_per_clip=4,
        pred_hidden_size=48,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    own = VJEPA2Model(config).eval()
    save_file(randomise(own), tmp_path / "model.safetensors")
    settings = ForeignSettings(
        "auto",
        weights=str(tmp_path / "model.safetensors"),
        image_size=48,
        window=Window(4, 2),
    )
    assert kind_of(settings) == "vjepa"
    raw = torch.rand(2, 4, 3, 48, 48)
    pooled, maps = open_foreign(settings).backbone(ours(raw))
    with torch.inference_mode():
        found = own(theirs(raw), skip_predictor=True).last_hidden_state  # N (t h w) D
    judged = found.unflatten(1, (2, 9))[:, 1]  # frame 2 of 4 lies in the second tubelet
    torch.testing.assert_close(maps.flatten(2).transpose(1, 2), judged, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pooled, judged.mean(1), atol=1e-4, rtol=1e-4)


def turned(x: Tensor, places: Tensor) -> Tensor:
    """Positions of V-JEPA 2.1, number by number: heads L d, by frame, row and column L 3."""
    width = x.shape[-1]
    axis = 2 * (width // 3 // 2)
    out = x.clone()
    for which in range(3):
        for pair in range(axis // 2):
            at = which * axis + 2 * pair
            angle = places[:, which] * 10000.0 ** (-pair / (axis / 2))
            first, second = x[..., at], x[..., at + 1]
            out[..., at] = first * angle.cos() - second * angle.sin()
            out[..., at + 1] = second * angle.cos() + first * angle.sin()
    return out


def layer(tensors: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    if "norm" in name:
        return F.layer_norm(
            x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6
        )
    return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = (query @ key.transpose(-2, -1)) / math.sqrt(query.shape[-1])
    return (scores.softmax(-1) @ value).transpose(-3, -2).flatten(-2)


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def test_vjepa_2_1_gives_what_its_own_arithmetic_gives(tmp_path: Path) -> None:
    width, hidden, depth = 128, 192, 2
    tensors: dict[str, Tensor] = {
        "patch_embed.proj.weight": 0.05 * torch.randn(width, 3, 2, 16, 16),
        "patch_embed.proj.bias": torch.randn(width),
        "patch_embed_img.proj.weight": torch.randn(width, 3, 1, 16, 16),
        "patch_embed_img.proj.bias": torch.randn(width),
        "img_mod_embed": torch.randn(1, 1, width),
        "video_mod_embed": torch.randn(1, 1, width),
    }
    norms = [f"norms_block.{number}" for number in range(4)]
    for block in range(depth):
        norms += [f"blocks.{block}.norm1", f"blocks.{block}.norm2"]
        for name, shape in (
            ("attn.qkv", (3 * width, width)),
            ("attn.proj", (width, width)),
            ("mlp.fc1", (hidden, width)),
            ("mlp.fc2", (width, hidden)),
        ):
            tensors[f"blocks.{block}.{name}.weight"] = 0.2 * torch.randn(shape)
            tensors[f"blocks.{block}.{name}.bias"] = torch.randn(shape[0])
    for name in norms:
        tensors |= {f"{name}.weight": torch.rand(width), f"{name}.bias": torch.randn(width)}
    stored = {f"module.backbone.{name}": value for name, value in tensors.items()}
    path = tmp_path / "vjepa2_1_vitb_dist_vitG_384.pt"
    torch.save({"epoch": 1, "ema_encoder": stored, "predictor": {"a": torch.zeros(1)}}, path)
    settings = ForeignSettings("auto", weights=str(path), image_size=48, window=Window(4, 1))
    assert kind_of(settings) == "vjepa"
    raw = torch.rand(2, 4, 3, 48, 48)
    found = open_foreign(settings).backbone(ours(raw))[1]

    x = F.conv3d(
        theirs(raw).transpose(1, 2),
        tensors["patch_embed.proj.weight"],
        tensors["patch_embed.proj.bias"],
        stride=(2, 16, 16),
    )
    x = x.flatten(2).transpose(1, 2) + tensors["video_mod_embed"]
    # rows and columns of a 3 x 3 grid, stretched to the 16 of the first training
    places = torch.tensor(
        [[t, 7.5 * h, 7.5 * w] for t in range(2) for h in range(3) for w in range(3)]
    )
    for block in range(depth):
        b = f"blocks.{block}"
        query, key, value = (
            heads_of(part, 2)
            for part in layer(tensors, f"{b}.attn.qkv", layer(tensors, f"{b}.norm1", x)).chunk(
                3, -1
            )
        )
        mixed = attend(turned(query, places), turned(key, places), value)
        x = x + layer(tensors, f"{b}.attn.proj", mixed)
        inner = F.gelu(layer(tensors, f"{b}.mlp.fc1", layer(tensors, f"{b}.norm2", x)))
        x = x + layer(tensors, f"{b}.mlp.fc2", inner)
    wanted = layer(tensors, "norms_block.3", x)[:, 9:]
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), wanted, atol=1e-3, rtol=1e-3)


def test_avf_mae_gives_what_its_own_arithmetic_gives(tmp_path: Path) -> None:
    tensors = avf_mae_tensors()
    stored: dict[str, Any] = {f"encoder.{name}": value for name, value in tensors.items()}
    stored |= {
        "encoder_audio.norm.weight": torch.zeros(2),
        "decoder.head.weight": torch.ones(2),
    }
    # a number of NumPy's stands in the published file, which must be read all the same
    torch.save({"model": stored, "best": np.float64(1.0)}, tmp_path / "AVF-MAE++_huge.pth")
    settings = ForeignSettings("auto", weights=str(tmp_path / "AVF-MAE++_huge.pth"))
    assert kind_of(settings) == "avf_mae"
    entrant = open_foreign(settings)
    assert (entrant.image_size, entrant.window) == (160, Window(16, 4))
    raw = torch.rand(1, 16, 3, 160, 160)
    found = entrant.backbone(ours(raw))[1]
    wanted = avf_mae(tensors, theirs(raw)).view(8, 100, AVF_WIDTH)
    wanted = wanted[4]  # frame 8 of 16 lies in the fifth tubelet
    torch.testing.assert_close(found[0].flatten(1).T, wanted, atol=1e-3, rtol=1e-3)


AVF_WIDTH, AVF_HIDDEN = 128, 192


def avf_mae_tensors() -> dict[str, Tensor]:
    """Random weights of one block, under the published names."""
    width = AVF_WIDTH
    tensors: dict[str, Tensor] = {
        "patch_embed.proj.weight": 0.05 * torch.randn(width, 3, 2, 16, 16),
        "patch_embed.proj.bias": torch.randn(width),
        "lg_region_tokens": torch.randn(8, width),
    }
    norms = ["norm", "blocks.0.norm2"]
    for step in ("first", "second", "third", "fourth"):
        b = f"blocks.0.{step}_attn"
        norms.append(f"{b}_norm0")
        if step in ("third", "fourth"):
            norms.append(f"{b}_norm1")
        tensors |= {
            f"{b}.q.weight": 0.2 * torch.randn(width, width),
            f"{b}.kv.weight": 0.2 * torch.randn(2 * width, width),
            f"{b}.q_bias": torch.randn(width),
            f"{b}.v_bias": torch.randn(width),
            f"{b}.proj.weight": 0.2 * torch.randn(width, width),
            f"{b}.proj.bias": torch.randn(width),
        }
    for name, shape in (("fc1", (AVF_HIDDEN, width)), ("fc2", (width, AVF_HIDDEN))):
        tensors[f"blocks.0.mlp.{name}.weight"] = 0.2 * torch.randn(shape)
        tensors[f"blocks.0.mlp.{name}.bias"] = torch.randn(shape[0])
    for name in norms:
        tensors |= {f"{name}.weight": torch.rand(width), f"{name}.bias": torch.randn(width)}
    return tensors


def avf_mae(tensors: dict[str, Tensor], frames: Tensor) -> Tensor:
    """Features 800 D of frames 1 16 3 160 160, written out."""

    def attention(step: str, x: Tensor, seen: Tensor) -> Tensor:
        b = f"blocks.0.{step}_attn"
        key, value = F.linear(seen, tensors[f"{b}.kv.weight"]).chunk(2, -1)
        query = F.linear(x, tensors[f"{b}.q.weight"]) + tensors[f"{b}.q_bias"]
        parts = (query, key, value + tensors[f"{b}.v_bias"])
        return layer(tensors, f"{b}.proj", attend(*(heads_of(part, 2) for part in parts)))

    local, tokens = avf_mae_patches(tensors, frames), tensors["lg_region_tokens"].clone()
    cells = [(t, h, w) for t in range(8) for h in range(10) for w in range(10)]
    region = torch.tensor([2 * (t // 2) + h // 5 for t, h, w in cells])
    for number in range(8):
        inside = torch.cat([tokens[number : number + 1], local[region == number]])
        normed = layer(tensors, "blocks.0.first_attn_norm0", inside)
        inside = inside + attention("first", normed, normed)
        tokens[number], local[region == number] = inside[0], inside[1:]
    normed = layer(tensors, "blocks.0.second_attn_norm0", tokens)
    tokens = tokens + attention("second", normed, normed)
    for step in ("third", "fourth"):
        into, of = (local, tokens) if step == "third" else (tokens, local)
        b = f"blocks.0.{step}_attn"
        added = attention(
            step, layer(tensors, f"{b}_norm0", into), layer(tensors, f"{b}_norm1", of)
        )
        local, tokens = (local + added, tokens) if step == "third" else (local, tokens + added)
    inner = F.gelu(layer(tensors, "blocks.0.mlp.fc1", layer(tensors, "blocks.0.norm2", local)))
    return layer(tensors, "norm", local + layer(tensors, "blocks.0.mlp.fc2", inner))


def avf_mae_patches(tensors: dict[str, Tensor], frames: Tensor) -> Tensor:
    """Tokens 800 D of the frames, with the sines of their places added."""
    x = F.conv3d(
        frames.transpose(1, 2),
        tensors["patch_embed.proj.weight"],
        tensors["patch_embed.proj.bias"],
        stride=(2, 16, 16),
    )
    x = x.flatten(2).transpose(1, 2)[0]  # 800 D
    places = [
        [
            (math.cos if column % 2 else math.sin)(
                place / 10000 ** (2 * (column // 2) / AVF_WIDTH)
            )
            for column in range(AVF_WIDTH)
        ]
        for place in range(800)
    ]
    return x + torch.tensor(places)


def test_a_folder_of_hugging_face_gives_what_its_own_model_gives(tmp_path: Path) -> None:
    from transformers import VideoMAEConfig, VideoMAEModel, ViTConfig, ViTModel

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 16,
    }
    picture = ViTModel(ViTConfig(**small), add_pooling_layer=False).eval()
    picture.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 32}}'
    )
    settings = ForeignSettings("auto", weights=str(tmp_path / "vit"))
    assert kind_of(settings) == "hugging_face"
    raw = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        wanted = picture((raw - 0.5) / 0.5).last_hidden_state[:, 0]
    entrant = open_foreign(settings)
    assert entrant.image_size == 32
    torch.testing.assert_close(entrant.backbone(ours(raw))[0], wanted, atol=1e-4, rtol=1e-4)

    video = VideoMAEModel(VideoMAEConfig(**small, num_frames=4, tubelet_size=2)).eval()
    video.save_pretrained(tmp_path / "videomae")
    entrant = open_foreign(ForeignSettings("auto", weights=str(tmp_path / "videomae")))
    assert entrant.window == Window(4, 4)
    clip = torch.rand(1, 4, 3, 32, 32)
    with torch.inference_mode():
        tokens = video(theirs(clip)).last_hidden_state  # N (t h w) D
    torch.testing.assert_close(
        entrant.backbone(ours(clip))[0],
        tokens.unflatten(1, (2, 4))[:, 1].mean(1),
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_file_of_no_known_layout_is_told(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    settings = ForeignSettings("auto", weights=str(tmp_path / "a.safetensors"))
    with pytest.raises(ValueError, match="none of the layouts"):
        open_foreign(settings)
    for kind in ("dinov3", "vjepa", "avf_mae"):
        with pytest.raises(ValueError, match="is no"):
            open_foreign(ForeignSettings(kind, weights=str(tmp_path / "a.safetensors")))

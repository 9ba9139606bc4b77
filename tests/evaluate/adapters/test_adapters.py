"""A foreign checkpoint must become the very network its authors trained, and a file that is
none must be told, not half loaded.
"""

import argparse
import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ausl_dist.evaluate.adapters import ForeignSettings, open_foreign
from ausl_dist.evaluate.adapters.marlin import WINDOW
from ausl_dist.model.backbones import BackboneSettings, build_backbone, import_timm
from ausl_dist.model.readout import ReadoutSettings
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size)


def test_a_timm_network_from_a_local_file_gives_its_own_features(tmp_path: Path) -> None:
    own = build_backbone(BackboneSettings("resnet10t", 32)).eval()
    save_file(
        {**own.net.state_dict(), "fc.weight": torch.zeros(3, own.dim)},
        tmp_path / "weights.safetensors",
    )
    entrant = open_foreign(
        ForeignSettings(
            "timm",
            name="resnet10t",
            weights=str(tmp_path / "weights.safetensors"),
            image_size=32,
        )
    )
    x = images(32)
    torch.testing.assert_close(entrant.backbone(x)[0], own(x)[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(entrant.random_double(5)(x)[0], own(x)[0])
    assert torch.equal(entrant.random_double(5)(x)[0], entrant.random_double(5)(x)[0])


def test_pixels_arrive_with_the_statistics_the_backbone_was_trained_with(
    tmp_path: Path,
) -> None:
    own = build_backbone(BackboneSettings("resnet10t", 32)).eval()
    save_file(own.net.state_dict(), tmp_path / "w.safetensors")
    half = (0.5, 0.5, 0.5)
    weights = str(tmp_path / "w.safetensors")
    settings = ForeignSettings(
        "timm",
        name="resnet10t",
        weights=weights,
        image_size=32,
        pixel_mean=half,
        pixel_std=half,
    )
    raw = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    torch.testing.assert_close(
        open_foreign(settings).backbone((raw - mean) / std)[0],
        own((raw - 0.5) / 0.5)[0],
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_state_dict_under_other_names_is_renamed_and_what_does_not_fit_is_told(
    tmp_path: Path,
) -> None:
    own = build_backbone(BackboneSettings("resnet10t", 32)).eval()
    other = {
        f"module.encoder.{name.replace('layer1.', 'first.')}": value
        for name, value in own.net.state_dict().items()
    }
    torch.save(
        {"epoch": 3, "state_dict": {**other, "module.projector.weight": torch.zeros(2)}},
        tmp_path / "other.pt",
    )
    settings = {"name": "resnet10t", "weights": str(tmp_path / "other.pt"), "image_size": 32}
    found = open_foreign(
        ForeignSettings(
            "state_dict", mapping={"encoder.": "", "encoder.first.": "layer1."}, **settings
        )
    )
    x = images(32)
    torch.testing.assert_close(found.backbone(x)[0], own(x)[0], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"not in the file \['layer1"):
        open_foreign(ForeignSettings("state_dict", mapping={"encoder.": ""}, **settings))


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_a_masked_auto_encoder_is_known_by_its_shapes(fine_tuned: bool, tmp_path: Path) -> None:
    pool = {"global_pool": "avg", "fc_norm": True} if fine_tuned else {"global_pool": "token"}
    shape = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 128,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 0,
    }
    own = import_timm().models.VisionTransformer(**shape, **pool).eval()
    extra = (
        {"head.weight": torch.zeros(3, 128)}
        if fine_tuned
        else {"decoder_embed.weight": torch.zeros(2), "mask_token": torch.zeros(1)}
    )
    torch.save(
        {"model": {**own.state_dict(), **extra}, "args": argparse.Namespace(lr=1e-3)},
        tmp_path / "mae.pth",
    )
    entrant = open_foreign(ForeignSettings("mae", weights=str(tmp_path / "mae.pth")))
    x = images(32)
    assert entrant.image_size == 32
    torch.testing.assert_close(
        entrant.backbone(x)[0], own.forward_head(own.forward_features(x)), atol=1e-5, rtol=1e-4
    )


class MarlinAttention(nn.Module):
    """Attention as MARLIN's checkpoints are laid out: no bias of the key."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = (
            nn.Parameter(torch.randn(width)),
            nn.Parameter(torch.randn(width)),
        )
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        q, v = q + self.q_bias, v + self.v_bias
        q, k, v = (part.unflatten(-1, (-1, 64)).transpose(1, 2) for part in (q, k, v))
        return self.proj(
            ((q @ k.transpose(-2, -1)) / 8).softmax(-1).matmul(v).transpose(1, 2).flatten(2)
        )


def test_marlin_gives_what_its_own_arithmetic_gives(tmp_path: Path) -> None:
    width, tokens = 128, WINDOW.frames // 2 * 4
    attention = MarlinAttention(width)
    norm1, norm2, norm = (nn.LayerNorm(width) for _ in range(3))
    first, second = nn.Linear(width, 512), nn.Linear(512, width)
    patches, position = (
        nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16)),
        torch.randn(1, tokens, width),
    )
    parts = {
        "patch_embedding.projection": patches,
        "blocks.0.norm1": norm1,
        "blocks.0.norm2": norm2,
        "norm": norm,
    }
    parts |= {
        "blocks.0.attn": attention,
        "blocks.0.mlp.layers.0.linear": first,
        "blocks.0.mlp.layers.1.linear": second,
    }
    tensors = {
        f"encoder.{place}.{name}": value
        for place, part in parts.items()
        for name, value in part.state_dict().items()
    }
    torch.save(
        {
            **tensors,
            "encoder.pos_embedding.emb": position,
            "decoder.norm.weight": torch.zeros(2),
        },
        tmp_path / "marlin.pt",
    )
    entrant = open_foreign(ForeignSettings("marlin", weights=str(tmp_path / "marlin.pt")))
    assert entrant.image_size == 32
    assert entrant.window == WINDOW
    raw = torch.rand(2, WINDOW.frames, 3, 32, 32)
    x = patches(raw.transpose(1, 2)).flatten(2).transpose(1, 2) + position
    x = x + attention(norm1(x))
    x = x + second(nn.functional.gelu(first(norm2(x))))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    torch.testing.assert_close(
        entrant.backbone((raw - mean) / std)[0],
        norm(x)[:, 16:20].mean(1),  # of the tubelet that the judged frame lies in
        atol=1e-3,
        rtol=1e-3,
    )


class Bomb:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('a checkpoint ran code')",))


def test_a_checkpoint_that_runs_code_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.zeros(1)}, "extra": Bomb()}, tmp_path / "bad.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for name in ("bad.pth", "plain.pth"):
        with pytest.raises(ValueError, match="cannot be read as plain weights"):
            open_foreign(ForeignSettings("mae", weights=str(tmp_path / name)))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs weights="):
        ForeignSettings("mae")
    with pytest.raises(ValueError, match="needs name="):
        ForeignSettings("timm")
    with pytest.raises(ValueError, match="download the checkpoint"):
        open_foreign(ForeignSettings("mae", weights=str(tmp_path / "no.pth")))
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    for kind, answer in (("mae", "no masked auto-encoder"), ("marlin", "no MARLIN")):
        with pytest.raises(ValueError, match=answer):
            open_foreign(ForeignSettings(kind, weights=str(tmp_path / "a.safetensors")))


def test_a_foreign_network_is_read_as_ours_are(tmp_path: Path) -> None:
    own = build_backbone(BackboneSettings("resnet10t", 64)).eval()
    save_file(own.net.state_dict(), tmp_path / "w.safetensors")
    grid = ReadoutSettings("grid", cells=2)
    settings = ForeignSettings(
        "timm",
        name="resnet10t",
        weights=str(tmp_path / "w.safetensors"),
        image_size=64,
        readout=grid,
    )
    entrant = open_foreign(settings)
    x = images(64)
    expected = torch.nn.functional.adaptive_avg_pool2d(own(x)[1], 2).flatten(1)
    torch.testing.assert_close(entrant.backbone(x)[0], expected, atol=1e-5, rtol=1e-4)
    assert entrant.description["readout"] == "grid"
    with pytest.raises(ValueError, match="grid"):
        dataclasses.replace(settings, readout=ReadoutSettings("learnt"))

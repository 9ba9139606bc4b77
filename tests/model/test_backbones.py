"""Every family of backbones gives the same kind of output, from random weights or a file."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from ausl_dist.model.backbones import (
    OWN_NETWORKS,
    BackboneSettings,
    build_backbone,
    import_timm,
)

CONFIGS = Path(__file__).parents[2] / "configs" / "backbone"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_resnet", 64),
        ("test_convnext2", 64),
        ("test_vit", 64),
        ("swin_s3_tiny_224", 56),
        ("resnet10t", 64),
    ],
)
def test_pooled_features_and_map_have_the_same_width(name: str, size: int) -> None:
    backbone = build_backbone(BackboneSettings(name, image_size=size)).eval()
    pooled, maps = backbone(torch.randn(2, 3, size, size))
    assert pooled.shape == (2, backbone.dim)
    assert maps.shape[:2] == (2, backbone.dim)
    assert maps.shape[2] == maps.shape[3] > 1


def test_a_map_keeps_its_place_in_the_image() -> None:
    for name in ("test_resnet", "test_vit"):
        torch.manual_seed(0)
        backbone = build_backbone(BackboneSettings(name, image_size=64)).eval()
        images = torch.zeros(1, 3, 64, 64)
        changed = images.clone()
        changed[..., 48:, :16] += 3.0  # bottom left
        difference = (backbone(changed)[1] - backbone(images)[1]).abs().sum(1)[0]
        half = difference.shape[0] // 2
        assert difference[half:, :half].sum() > difference[:half, half:].sum(), name


def test_weights_come_back_from_a_file_and_heads_in_it_are_passed_over(tmp_path: Path) -> None:
    first = build_backbone(BackboneSettings("test_resnet", image_size=64))
    path = tmp_path / "weights.safetensors"
    save_file({**first.net.state_dict(), "fc.weight": torch.zeros(3, 96)}, path)
    second = build_backbone(BackboneSettings("test_resnet", image_size=64, weights=str(path)))
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    with pytest.raises(ValueError, match=r"does not fit|another backbone"):
        build_backbone(BackboneSettings("test_vit", image_size=64, weights=str(path)))
    with pytest.raises(ValueError, match="never loaded"):
        build_backbone(BackboneSettings("test_resnet", weights="weights.pth"))


def test_an_unknown_name_gets_near_ones() -> None:
    with pytest.raises(ValueError, match="resnet18"):
        build_backbone(BackboneSettings("resnet_18"))
    with pytest.raises(ValueError, match="image_size"):
        BackboneSettings("resnet18", image_size=8)


def test_recomputing_activations_changes_nothing_but_memory() -> None:
    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        backbone = build_backbone(
            BackboneSettings("test_vit", image_size=32, activation_checkpointing=again)
        ).train()
        torch.manual_seed(1)
        backbone(torch.randn(2, 3, 32, 32))[0].square().sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None])
        )
    torch.testing.assert_close(gradients[0], gradients[1])


def test_every_backbone_config_names_a_model_there_is() -> None:
    known = {*import_timm().list_models(), *OWN_NETWORKS}
    for file in CONFIGS.glob("*.yaml"):
        assert OmegaConf.load(file).name in known, file

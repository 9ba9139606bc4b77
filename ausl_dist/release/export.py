"""The backbone for other engines: ONNX, and weights of half the size, each with its measured
error.

    backbone ──▶ exports/model.onnx, model.float16.safetensors, model.bfloat16.safetensors
        ──features of faces──▶ errors

The error is the largest relative difference of a frame's features to those of the fp32 network
in torch: |a - b| / |b|. An ONNX file whose error is above MAX_ONNX_ERROR is not written.
"""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ausl_dist.files import write_atomically
from ausl_dist.model.backbones import Backbone
from ausl_dist.packages import require

KINDS = ("onnx", "float16", "bfloat16")
MAX_ONNX_ERROR = 1e-4
OPSET = 17


def check_exports(kinds: Sequence[str]) -> None:
    """Raise ValueError for a kind that is not known, or lacks its package."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"no export is called {', '.join(unknown)}; known: {', '.join(KINDS)}")
    if "onnx" in kinds:
        require("--export onnx")


def write_exports(
    folder: Path, backbone: Backbone, frames: Tensor, kinds: Sequence[str]
) -> dict[str, float]:
    """Write the exports of these kinds into a folder; returns the error of each on normalised
    frames N 3 H W, at least two.

    Raises ValueError for an unknown kind, or one that goes wrong.
    """
    check_exports(kinds)
    errors: dict[str, float] = {}
    for kind in sorted(set(kinds)):
        if kind == "onnx":
            data = onnx_bytes(backbone, frames.shape[-1])
            error = feature_error(run_onnx(data, frames), features_of(backbone, frames))
            if error > MAX_ONNX_ERROR:
                raise ValueError(
                    "the ONNX export gives other features than torch (relative error "
                    f"{error:.1e}): it was not written"
                )
            write_atomically(folder / "model.onnx", data)
        else:
            weights = {
                name: _lowered(tensor, getattr(torch, kind))
                for name, tensor in sorted(backbone.weights().items())
            }
            error = _error_of_weights(backbone, weights, frames)
            write_atomically(folder / f"model.{kind}.safetensors", save(weights))
        errors[kind] = float(f"{error:.1g}")  # one digit: the rest differs between processors
    return errors


def onnx_bytes(backbone: Backbone, image_size: int) -> bytes:
    """The network as ONNX: images N 3 H W, normalised, to pooled features N D, for any N."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # The exporter that traces needs no further package; torch announces another one at each
        # call.
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            _Pooled(backbone),
            (torch.zeros(2, 3, image_size, image_size),),
            path,
            input_names=["images"],
            output_names=["features"],
            dynamic_axes={"images": {0: "frames"}, "features": {0: "frames"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


class _Pooled(nn.Module):
    """A backbone that gives its readout alone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.eval()

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.backbone(images)[0]
        return pooled


def run_onnx(data: bytes, frames: Tensor) -> Tensor:
    """Features of frames by ONNX Runtime, in batches of one and of the rest: a batch size that
    was baked in shows here.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session: Any = onnxruntime.InferenceSession(
        data, options, providers=["CPUExecutionProvider"]
    )
    return torch.cat(
        [
            torch.from_numpy(session.run(None, {"images": part.numpy()})[0])
            for part in (frames[:1], frames[1:])
        ]
    )


def features_of(backbone: Backbone, frames: Tensor) -> Tensor:
    """Pooled features N D in eval mode."""
    with torch.inference_mode(), _eval_mode(backbone):
        pooled: Tensor = backbone(frames)[0]
        return pooled.clone()


def feature_error(found: Tensor, wanted: Tensor) -> float:
    """Largest relative difference of a row."""
    return float(((found - wanted).norm(dim=1) / wanted.norm(dim=1).clamp(min=1e-12)).max())


def _lowered(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()


def _error_of_weights(backbone: Backbone, weights: dict[str, Tensor], frames: Tensor) -> float:
    """What rounding the weights alone does to the features; the arithmetic stays fp32."""
    wanted = features_of(backbone, frames)
    original = {name: tensor.clone() for name, tensor in backbone.weights().items()}
    try:
        backbone.load_weights(
            {name: tensor.to(original[name].dtype) for name, tensor in weights.items()}
        )
        return feature_error(features_of(backbone, frames), wanted)
    finally:
        backbone.load_weights(original)


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)

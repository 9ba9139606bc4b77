"""Any network of pictures, or VideoMAE, that Hugging Face's `transformers` knows: a folder with
config.json and model.safetensors, as `hf download ORG/NAME --local-dir FOLDER` leaves it.

    FOLDER ──AutoModel, local files alone, no code of theirs──▶ last_hidden_state ──▶ map, class token or mean

Statistics and size of the pictures come from preprocessor_config.json where there is one. DINOv3
and V-JEPA 2 of Hugging Face need no `transformers`: kind=dinov3 and kind=vjepa read their file.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ausl_dist.evaluate.adapters.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    USUAL_SIDE,
    ForeignSettings,
    entrant,
)
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.evaluate.features.windows import Window, at_slot
from ausl_dist.files import json_object, read_bounded
from ausl_dist.model.backbones import import_timm
from ausl_dist.packages import require

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
MAX_BYTES = 1 << 20
STEP = 4  # frames, of VideoMAE on Kinetics


class HuggingFace(nn.Module):
    """A network of theirs in ours' clothes."""

    def __init__(self, net: nn.Module, config: Any, window: Window | None) -> None:
        super().__init__()
        self.net, self.window = net, window
        self.patch = _number(getattr(config, "patch_size", 0))
        self.tubelet = int(getattr(config, "tubelet_size", 1))
        widths = getattr(config, "hidden_sizes", None)
        self.dim = int(widths[-1] if widths else config.hidden_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled N D and map N D h w of pictures N 3 H W, or of windows N W 3 H W."""
        found = self.net(pixel_values=images).last_hidden_state
        if found.ndim == 4:  # of a convolutional network
            return found.mean((2, 3)), found
        height, width = (side // self.patch for side in images.shape[-2:])
        if self.window is not None:
            grid = (self.window.frames // self.tubelet, height, width)
            maps = at_slot(found, grid, self.window.slot, self.window.frames)
            return maps.mean((2, 3)), maps
        before = found.shape[1] - height * width  # class token and registers
        maps = found[:, before:].transpose(1, 2).unflatten(2, (height, width))
        return (found[:, 0] if before else maps.mean((2, 3))), maps


def recognises(folder: Path) -> bool:
    """Whether a folder is one of theirs."""
    return "model_type" in _read(folder / CONFIG)


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The network; ValueError where the folder is none of theirs, or `transformers` is not
    installed.
    """
    folder = Path(settings.weights or "")
    if not recognises(folder):
        raise ValueError(
            f"{folder} is no folder of Hugging Face: it has no {CONFIG} with a model_type"
        )
    require("foreign.kind=hugging_face")
    import_timm()  # first: it mends a torchvision that does not load
    transformers = importlib.import_module("transformers")
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(str(folder), **local)
    frames = getattr(config, "num_frames", None)
    window = settings.window or (Window(int(frames), STEP) if frames else None)

    def build() -> HuggingFace:
        return HuggingFace(transformers.AutoModel.from_config(config).eval(), config, window)

    theirs = transformers.AutoModel.from_pretrained(
        str(folder), use_safetensors=True, dtype=torch.float32, **local
    )
    prepared = _read(folder / PREPROCESSOR)
    return entrant(
        settings,
        build,
        HuggingFace(theirs.eval(), config, window),
        image_size=settings.image_size or _side(config, prepared),
        mean=tuple(prepared.get("image_mean", IMAGENET_MEAN)),
        std=tuple(prepared.get("image_std", IMAGENET_STD)),
    )


def _side(config: Any, prepared: dict[str, Any]) -> int:
    size = prepared.get("crop_size") or prepared.get("size") or {}
    given = size.get("height") if isinstance(size, dict) else size
    return _number(given or getattr(config, "image_size", USUAL_SIDE))


def _number(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    return json_object(read_bounded(path, MAX_BYTES), path) if path.is_file() else {}

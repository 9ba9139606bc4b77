"""What all adapters share: reading a file of weights without running anything in it, and giving
the network the pixels it expects.

    FILE.safetensors, FILE.pt, FILE.pth ──read_tensors──▶ tensors by name ──adapter──▶ network
        ──entrant──▶ Entrant

The crops stay ours: no published checkpoint says how its faces were cropped, so a foreign
backbone may be worth more on its own. The report says so, and its alignment meter
(alignment_meter=true) shows how much a crop matters to the backbone at hand.
"""

import argparse
import codecs
import dataclasses
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ausl_dist.batch import View
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.evaluate.features.windows import Window, window_of
from ausl_dist.files import sha256_of
from ausl_dist.model.readout import ReadoutSettings, build_readout
from ausl_dist.release.preprocessing import EVALUATION_VIEW
from ausl_dist.run_folder import check_weights
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD

# where training scripts put the network among optimizer and epoch
NESTS = (
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    # V-JEPA 2 and 2.1; their predictor stands beside it
    "ema_encoder",
    "target_encoder",
    "encoder",
)
USUAL_SIDE = 224  # pixels
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUMPY_SCALAR = np.float64(0).__reduce__()[0]
# What checkpoints of training scripts carry beside tensors: arguments, and numbers of NumPy,
# which are rebuilt from plain bytes. Nothing else is.
PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
    *((NUMPY_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    codecs.encode,
]
NOTE = (
    "crops are this project's, not those the backbone was trained on: "
    "read the score with the alignment meter beside it"
)


Kind = Literal[
    "auto",
    "timm",
    "state_dict",
    "mae",
    "marlin",
    "dinov3",
    "vjepa",
    "avf_mae",
    "hugging_face",
]


@dataclass(frozen=True)
class ForeignSettings:
    """A backbone that this project did not train."""

    kind: Kind  # auto: by what stands in the file
    name: str = ""  # timm's name of the network, for timm and state_dict
    # a local file, or for hugging_face a folder; kind=timm without one takes timm's own
    # pretrained weights
    weights: str | None = None
    # state_dict: beginning of a name in the file -> under timm's names
    mapping: Mapping[str, str] = field(default_factory=dict)
    # pixels; None: what the network was trained on, as far as its file tells, else 224
    image_size: int | None = None
    # side of the middle of our crop that the backbone sees, as a share of the crop's side
    view: float = EVALUATION_VIEW.crop[0]
    # what it was trained with, RGB in 0-1; marlin knows its own
    pixel_mean: tuple[float, float, float] = PIXEL_MEAN
    pixel_std: tuple[float, float, float] = PIXEL_STD
    # what a network of video sees around a frame; None: what it was trained with
    window: Window | None = None
    # what is read of its map: grid or regions, where ours keeps the place as well
    readout: ReadoutSettings = field(default_factory=ReadoutSettings)

    def __post_init__(self) -> None:
        if self.kind in ("timm", "state_dict") and not self.name:
            raise ValueError(
                f"kind={self.kind} needs name=, a network of timm's, as vit_small_patch16_224"
            )
        if self.kind != "timm" and self.weights is None:
            raise ValueError(f"kind={self.kind} needs weights=, a local file")
        if not 0 < self.view <= 1 or (self.image_size or 16) < 16:
            raise ValueError(
                "view must lie in (0, 1] and image_size be at least 16, "
                f"not {self.view} and {self.image_size}"
            )
        if self.readout.kind == "learnt":
            raise ValueError(
                "readout.kind: a foreign backbone has learnt none; judge it, and ours, by "
                "readout.kind=grid"
            )

    @property
    def side(self) -> int:
        """Of the pictures of a network that takes any."""
        return self.image_size or USUAL_SIDE

    @property
    def file(self) -> Path:
        """The local file of weights; ValueError when it is not there."""
        if self.weights is None or not Path(self.weights).is_file():
            raise ValueError(
                f"weights={self.weights} is not a file: download the checkpoint first, "
                "and give its path"
            )
        return Path(self.weights)


class Renormalised(nn.Module):
    """A backbone fed with our pixels, turned into those of its own mean and spread, and read by
    the readout that was chosen.
    """

    def __init__(
        self,
        backbone: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        readout: ReadoutSettings,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        own = int(cast(int, backbone.dim))
        # ours read their map by a readout of their own, and are wider or narrower than it
        map_dim = int(cast(int, getattr(backbone, "map_dim", own)))
        self.readout = build_readout(readout, map_dim, side=(0, 0))
        self.dim = own if self.readout is None else self.readout.dim
        self.window = window_of(backbone)
        ours_mean, ours_std, mean_, std_ = (
            torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD, mean, std)
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", ours_std / std_, persistent=False)
        self.register_buffer("shift", (ours_mean - mean_) / std_, persistent=False)

    @property
    def net(self) -> nn.Module:
        return cast(nn.Module, self.backbone.net)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled, maps = self.backbone(images * self.scale + self.shift)
        return (pooled if self.readout is None else self.readout(maps)), maps


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The network's tensors in a .safetensors file or a torch checkpoint, of which nothing but
    plain data is ever unpickled.
    """
    check_weights(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        with torch.serialization.safe_globals(PLAIN):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        reason = (
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        )
        raise ValueError(
            f"{path} cannot be read as plain weights ({reason}): save its state_dict alone, "
            "best as .safetensors"
        ) from error
    for name in NESTS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    tensors = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise ValueError(
            f"{path} holds no tensors by name: give a state_dict, or a checkpoint with one under "
            f"{', '.join(NESTS)}"
        )
    prefix = "module."  # of DistributedDataParallel
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """A tensor's name after each pattern has become its replacement, in order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def depth_of(tensors: Mapping[str, Tensor]) -> int:
    """How many blocks tensors named blocks.N.… have."""
    return 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))


def load_exactly(
    net: nn.Module, tensors: Mapping[str, Tensor], settings: ForeignSettings
) -> None:
    """Load tensors that must fit name by name; ValueError that lists what does not."""
    try:
        missing, unexpected = net.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:  # shapes differ
        raise ValueError(f"{settings.weights} does not fit the network: {error}") from error
    if missing or unexpected:
        raise ValueError(
            f"{settings.weights} does not fit the network: not in the file {list(missing)[:5]}, "
            f"in the file only {list(unexpected)[:5]}; "
            "kind=state_dict with mapping= renames what is named otherwise"
        )


def entrant(
    settings: ForeignSettings,
    build: Callable[[], nn.Module],
    backbone: nn.Module,
    *,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Entrant:
    """The entrant of a network with its weights in place; `build` makes it again with random
    ones.
    """
    hashed = settings.weights is not None and Path(settings.weights).is_file()
    own = {"weights_sha256": sha256_of(settings.file)} if hashed else {}
    window = window_of(backbone)
    description: dict[str, Any] = {
        "name": settings.name or Path(str(settings.weights)).stem,
        "kind": settings.kind,
        "readout": settings.readout.kind,
        "image_size": image_size,
        **({} if window is None else {"window": dataclasses.asdict(window)}),
        **own,
        "note": NOTE,
    }
    return Entrant(
        backbone=Renormalised(backbone, mean, std, settings.readout)
        .eval()
        .requires_grad_(False),
        fresh=lambda: Renormalised(build(), mean, std, settings.readout),
        image_size=image_size,
        view=View(
            crop=(settings.view, settings.view),
            centre=max(settings.view, EVALUATION_VIEW.centre),
        ),
        alignment=None,
        description=description,
    )

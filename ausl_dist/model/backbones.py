"""Backbones: a timm model by name, made to give pooled features and a feature map whatever its
family.

    images N C H W ──▶ timm network ──▶ map N M h w  (what regional objectives see)
                                            └──readout──▶ pooled N D   (what a consumer's probe sees)

Convolutional networks, ConvNeXt, Swin and vision transformers differ in the layout of their
features; the difference ends here. The timm network itself is `.net`, so released weights carry
timm's own names. What is read of the map is chosen by `readout` (see `model.readout`).
"""

import ctypes
import difflib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ausl_dist.model.readout import ReadoutSettings, build_readout
from ausl_dist.model.small_conv import SmallConv
from ausl_dist.model.video_network import VIDEO_NETWORKS
from ausl_dist.run_folder import check_weights

OWN_NETWORKS: dict[str, Callable[[], nn.Module]] = {**VIDEO_NETWORKS, "small_conv": SmallConv}
READOUT = "readout."  # before the names of its weights, where they lie beside timm's

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 16, 1024  # pixels; faces are crops of 256


@dataclass(frozen=True)
class BackboneSettings:
    """Which network, and where its first weights come from."""

    # a timm name: resnet18, vit_small_patch16_224, convnextv2_tiny,
    # swin_tiny_patch4_window7_224, ...
    name: str
    image_size: int = 224  # pixels; transformers are built for one size
    weights: str | None = None  # a safetensors file under timm names; None for random weights
    drop_path: float = 0.0  # stochastic depth, the rate of the last block
    # recompute activations in the backward pass: less memory, about a third more time
    activation_checkpointing: bool = False
    readout: ReadoutSettings = field(default_factory=ReadoutSettings)

    def __post_init__(self) -> None:
        if not MIN_IMAGE_SIZE <= self.image_size <= MAX_IMAGE_SIZE:
            raise ValueError(
                f"image_size must lie in [{MIN_IMAGE_SIZE}, {MAX_IMAGE_SIZE}] pixels, "
                f"not {self.image_size}"
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in [0, 1), not {self.drop_path}")

    def bare(self) -> "BackboneSettings":
        """What says how features come about, without what matters in training alone."""
        return BackboneSettings(self.name, self.image_size, readout=self.readout)


class Backbone(nn.Module):
    """A timm network with one interface.

    `dim` is D, the width of pooled features, `map_dim` that of the map. Input is RGB normalised
    by `clip.PIXEL_MEAN` and `PIXEL_STD`.
    """

    def __init__(
        self, net: nn.Module, readout: ReadoutSettings | None = None, image_size: int = 224
    ) -> None:
        """Around a network; `image_size` is that of the pictures it will see, in pixels."""
        super().__init__()
        self.net = net
        self.map_dim = int(cast(int, net.num_features))
        settings = readout or ReadoutSettings()
        side = self._map_side(image_size) if settings.kind == "learnt" else (0, 0)
        self.readout = build_readout(settings, self.map_dim, side)
        self.dim = self.map_dim if self.readout is None else self.readout.dim
        # Of pictures and maps alone: given such pictures, torch's convolutions turn the weights
        # round on the way, and these may stay in rows, as ZeRO cuts them up.
        self.channels_last = False

    def forward(self, images: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features of images N 3 H W: pooled N D and map N M h w. A video network takes blocks
        N L 3 H W as well.

        With `visible`, N h w bool, a vision transformer computes these tokens alone, equally
        many in each image; map is then N M 1 tokens, and pooled the network's own mean of them.
        """
        # Under ZeRO with bf16 or fp16 the weights are of that type, and nobody else casts the
        # pixels.
        images = images.to(next(self.net.parameters()).dtype)
        if self.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        if visible is not None:
            tokens = _visible_tokens(self.net, images, visible)
            return self.net.forward_head(tokens, pre_logits=True), self._rest(tokens).transpose(  # type: ignore[operator]
                1, 2
            )[:, :, None]
        if images.ndim == 5 and not getattr(self.net, "takes_blocks", False):
            raise ValueError(
                "this backbone sees single frames, not blocks: type backbone=resnet18_2d3d, "
                "or encoder=frame in the objective"
            )
        features = self.net.forward_features(images)  # type: ignore[operator]
        maps = self._as_map(features, images)
        if self.readout is None:
            return self.net.forward_head(features, pre_logits=True), maps  # type: ignore[operator]
        return self.readout(maps), maps

    def weights(self) -> dict[str, Tensor]:
        """Every tensor: the network's under its own names, the readout's as readout.NAME."""
        own = {} if self.readout is None else self.readout.state_dict(prefix=READOUT)
        return {**self.net.state_dict(), **own}

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over exactly these `weights`; RuntimeError, as torch says it, where they do not
        fit.
        """
        readout = {
            name.removeprefix(READOUT): tensor
            for name, tensor in tensors.items()
            if name.startswith(READOUT)
        }
        self.net.load_state_dict(
            {n: t for n, t in tensors.items() if not n.startswith(READOUT)}
        )
        (self.readout or nn.Identity()).load_state_dict(readout)

    @torch.no_grad()
    def _map_side(self, image_size: int) -> tuple[int, int]:
        training = self.net.training
        image = torch.zeros(1, 3, image_size, image_size)
        height, width = self._as_map(self.net.eval().forward_features(image), image).shape[2:]  # type: ignore[operator]
        self.net.train(training)
        return height, width

    def _as_map(self, features: Tensor, images: Tensor) -> Tensor:
        if features.ndim == 3:
            tokens = self._rest(features)
            height, width = self.net.patch_embed.dynamic_feat_size(images.shape[-2:])  # type: ignore[union-attr, operator]
            return tokens.transpose(1, 2).unflatten(2, (height, width))  # N D h w
        if str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC"):  # Swin
            return features.permute(0, 3, 1, 2)
        return features

    def _rest(self, tokens: Tensor) -> Tensor:
        # tokens N L D: prefix tokens (class, registers) come first
        return tokens[:, int(getattr(self.net, "num_prefix_tokens", 0)) :]


def _visible_tokens(net: nn.Module, images: Tensor, visible: Tensor) -> Tensor:
    """Tokens N P+L' D of a timm vision transformer: its P prefix tokens and the visible ones,
    in reading order.
    """
    if not all(
        hasattr(net, part) for part in ("_pos_embed", "norm_pre", "blocks", "num_prefix_tokens")
    ):
        raise ValueError(
            "only vision transformers can leave tokens out: choose such a backbone, "
            "or encoder=fill in the objective"
        )
    grid = tuple(net.patch_embed.dynamic_feat_size(images.shape[-2:]))  # type: ignore[union-attr, operator]
    if tuple(visible.shape[-2:]) != grid:
        raise ValueError(
            f"this backbone's tokens form a {grid} grid, the mask {tuple(visible.shape[-2:])}: "
            "set patch to its patch size"
        )
    tokens = net._pos_embed(net.patch_embed(images))  # type: ignore[operator]
    prefix = int(cast(int, net.num_prefix_tokens))
    kept = tokens[:, prefix:][visible.flatten(1)].view(len(tokens), -1, tokens.shape[-1])
    hidden: Tensor = net.norm_pre(torch.cat([tokens[:, :prefix], kept], 1))  # type: ignore[operator]
    for block in cast(nn.ModuleList, net.blocks):
        hidden = (
            checkpoint(block, hidden, use_reentrant=False)
            if getattr(net, "grad_checkpointing", False)
            else block(hidden)
        )
    return cast(Tensor, net.norm(hidden))  # type: ignore[operator]


def build_backbone(settings: BackboneSettings) -> Backbone:
    """Build the network with random weights from torch's generator, or with those of
    `settings.weights`.

    Raises ValueError for a name that timm does not know, naming near ones, and for weights that
    do not fit.
    """
    if settings.name in OWN_NETWORKS:
        return _build_own_network(settings)
    timm = import_timm()
    if settings.name not in timm.list_models():
        near = difflib.get_close_matches(settings.name, timm.list_models(), n=5)
        raise ValueError(
            f"backbone.name: timm has no {settings.name!r}"
            + (f"; near it: {', '.join(near)}" if near else "")
        )
    options: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    if settings.drop_path:
        options["drop_path_rate"] = settings.drop_path
    try:
        net = timm.create_model(settings.name, img_size=settings.image_size, **options)
    except TypeError:  # convolutional networks take any size and know no img_size
        net = timm.create_model(settings.name, **options)
    if settings.activation_checkpointing:
        net.set_grad_checkpointing(True)
    return _with_weights(Backbone(net, settings.readout, settings.image_size), settings)


def _build_own_network(settings: BackboneSettings) -> Backbone:
    if settings.drop_path:
        raise ValueError(
            f"backbone.drop_path must be 0: {settings.name} has no stochastic depth"
        )
    net = OWN_NETWORKS[settings.name]()
    net.set_grad_checkpointing(settings.activation_checkpointing)  # type: ignore[operator]
    return _with_weights(Backbone(net, settings.readout, settings.image_size), settings)


def _with_weights(backbone: Backbone, settings: BackboneSettings) -> Backbone:
    """The backbone with the weights of a file, where one is named; of a learnt readout, too,
    where the file has one.
    """
    if settings.weights is not None:
        _load_weights(backbone, Path(settings.weights))
    return backbone


def _load_weights(backbone: Backbone, path: Path) -> None:
    if path.suffix != ".safetensors":
        raise ValueError(
            f"backbone.weights must be a .safetensors file, not {path}: pickled weights are never "
            "loaded"
        )
    check_weights(path)
    tensors = load_file(path)
    readout = {
        name.removeprefix(READOUT): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(READOUT)
    }
    try:
        missing, unexpected = backbone.net.load_state_dict(tensors, strict=False)
        own = backbone.readout
        if own is not None and own.state_dict().keys() == readout.keys():
            own.load_state_dict(readout)  # another kind of reading begins anew
    except RuntimeError as error:  # shapes differ
        raise ValueError(
            f"backbone.weights: {path} does not fit this backbone: {error}"
        ) from error
    unexpected = [
        name for name in unexpected if not name.startswith(("fc.", "head.", "classifier."))
    ]
    if missing or unexpected:
        raise ValueError(
            f"backbone.weights: {path} is of another backbone: missing {missing[:4]}, "
            f"not known here {unexpected[:4]}"
        )


def import_timm() -> ModuleType:
    """Import timm, also where torchvision's compiled part cannot be loaded.

    There is no CPU build of torchvision on the package index. Its CUDA wheel does not load
    beside a CPU build of torch, and then `import torchvision`, and with it `import timm`, fails
    because the schema of `torchvision::nms` is missing. We use none of torchvision's operators;
    declaring the two schemas is enough. Where the compiled part loads, nothing is declared.

    Where wandb is installed timm would import it for its own training scripts, which takes half
    as long as all of timm: it does not find it here.
    """
    spec = importlib.util.find_spec("torchvision")
    if (
        spec is not None
        and spec.submodule_search_locations
        and not hasattr(torch.ops.torchvision, "nms")
    ):
        library = Path(spec.submodule_search_locations[0]) / "_C.so"
        try:
            ctypes.CDLL(str(library))
        except OSError:
            definitions = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                definitions.define(
                    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
            _DECLARED.append(definitions)  # the schemas live as long as this object
    if "wandb" in sys.modules:
        return importlib.import_module("timm")
    sys.modules["wandb"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        return importlib.import_module("timm")
    finally:
        del sys.modules["wandb"]


_DECLARED: list[torch.library.Library] = []

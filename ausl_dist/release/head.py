"""The action-unit head of a bundle: from the backbone's features to numbers with a name and a
unit.

    Head (found by fitted.py) ──▶ head.json, head.safetensors ──▶ ActionUnitHead
    features N D ──ActionUnitHead──▶ N K: probability that a unit is present, or its intensity from 0 to 5

A head ends in one linear map; what follows it depends on the task it was fitted for: sigmoid
(detection), limits of 0 and 5 (intensity), or the mean level of a softmax over six levels
(ordinal). A head that the run trained with context=gru looks at the frames before too: then the
linear map is on the state of over_time.py.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ausl_dist.files import write_atomically, write_json
from ausl_dist.objectives.action_units import LEVELS
from ausl_dist.release.action_units import Unit, name_of
from ausl_dist.release.over_time import Context, Memory, OverTime, Row
from ausl_dist.release.verify import BundleError, read_object
from ausl_dist.settings import SettingsError, from_mapping
from ausl_dist.units import is_unit

SPEC_NAME, TENSORS_NAME = "head.json", "head.safetensors"
# beside the report of an evaluation: a head yet to be released
PROBE_NAME = "probe.safetensors"
MAX_INTENSITY = float(LEVELS - 1)
FORMAT = 1

Task = Literal["detection", "intensity", "ordinal"]


@dataclass(frozen=True)
class HeadSpec:
    """head.json: what the columns of a head mean."""

    task: Task
    action_units: tuple[int, ...]  # FACS numbers
    names: tuple[str, ...]
    unit: Unit
    source: str  # how it was fitted
    context: Context | None = None  # of a recurrent head
    format: int = FORMAT


@dataclass(frozen=True)
class Head:
    """A head to be released."""

    spec: HeadSpec
    weight: (
        Tensor  # K D; 6 K D for an ordinal head; of a recurrent one W x cells^2 instead of D
    )
    bias: Tensor
    # the weights of a recurrent head's OverTime
    over_time: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        task: Task,
        units: tuple[int, ...],
        source: str,
        weight: Tensor,
        bias: Tensor,
        *,
        context: Context | None = None,
        over_time: Mapping[str, Tensor] | None = None,
    ) -> "Head":
        """Raises ValueError where the tensors are not of so many units."""
        if len(set(units)) != len(units) or not all(map(is_unit, units)):
            raise ValueError(f"{source}: action units {str(units)[:80]} are no FACS numbers")
        rows = len(units) * (LEVELS if task == "ordinal" else 1)
        if weight.ndim != 2 or len(weight) != rows or bias.shape != (rows,):
            raise ValueError(
                f"{source}: tensors {tuple(weight.shape)} and {tuple(bias.shape)} are no head of "
                f"{len(units)} action units"
            )
        unit: Unit = "probability" if task == "detection" else "intensity"
        spec = HeadSpec(task, units, tuple(map(name_of, units)), unit, source, context)
        rest = {
            name: tensor.float().contiguous()
            for name, tensor in sorted((over_time or {}).items())
        }
        return cls(spec, weight.float().contiguous(), bias.float().contiguous(), rest)

    def built_on(self, dim: int, map_dim: int) -> "ActionUnitHead":
        """The head as a module on features of width `dim`; a recurrent one on maps of
        `map_dim`.

        Raises ValueError where its tensors do not fit.
        """
        if self.spec.context is None:
            if self.weight.shape[1] != dim:
                raise ValueError(
                    f"it is for features of width {self.weight.shape[1]}, the backbone's have {dim}"
                )
            return ActionUnitHead(self, None)
        width, rest = divmod(self.weight.shape[1], self.spec.context.cells**2)
        if rest:
            raise ValueError(
                f"it is {self.weight.shape[1]} wide, which {self.spec.context.cells} x "
                f"{self.spec.context.cells} cells do not divide"
            )
        # Without memory of its own: the width is what a file says, its tensors are what it
        # holds.
        with torch.device("meta"):
            over_time = OverTime(map_dim, width, self.spec.context)
        try:
            over_time.load_state_dict(dict(self.over_time), strict=True, assign=True)
        except RuntimeError as error:
            raise ValueError(
                f"its tensors are not those of a recurrent head on maps of width {map_dim}: {error}"
            ) from error
        return ActionUnitHead(self, over_time)


class ActionUnitHead(nn.Module):
    """Scores of frames, N K float32, from the backbone's features N D; from the states N W of
    `over_time`, where it has that.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, head: Head, over_time: OverTime | None) -> None:
        super().__init__()
        self.spec, self.over_time = head.spec, over_time
        self.requires_grad_(False)
        self.register_buffer("weight", head.weight)
        self.register_buffer("bias", head.bias)

    def forward(self, features: Tensor) -> Tensor:
        # In double precision a frame's score does not change with the number of frames beside
        # it.
        output = F.linear(
            features.to(self.weight.device).double(), self.weight.double(), self.bias.double()
        )
        if self.spec.task == "detection":
            return output.sigmoid().float()
        if self.spec.task == "intensity":
            return output.clamp(0, MAX_INTENSITY).float()
        share = output.unflatten(-1, (-1, LEVELS)).softmax(-1)  # N K L
        return (share * torch.arange(LEVELS, device=share.device)).sum(-1).float()

    def scores(
        self, rows: list[Row], features: Tensor, maps: Tensor | None, memory: Memory
    ) -> Tensor:
        """Scores of some rows of a source, N K; a recurrent head wants their feature maps N D h
        w, and the same memory each time.
        """
        if self.over_time is None:
            return self(features).cpu()
        assert maps is not None
        return self(self.over_time(rows, maps.to(self.weight.device), memory)).cpu()


def write_head(folder: Path, head: Head) -> None:
    """Write head.json and head.safetensors into a bundle."""
    write_json(folder / SPEC_NAME, dataclasses.asdict(head.spec))
    write_atomically(
        folder / TENSORS_NAME,
        save({"bias": head.bias, "weight": head.weight, **head.over_time}),
    )


def read_head(folder: Path, dim: int, map_dim: int) -> ActionUnitHead:
    """The head of a bundle whose features are `dim` wide, whose maps `map_dim`.

    Raises BundleError where it is of another format or does not fit.
    """
    raw = read_object(folder, SPEC_NAME)
    if raw.get("format") != FORMAT:
        raise BundleError(
            f"{folder / SPEC_NAME} is not of format {FORMAT}: install the version of ausl_dist "
            "that config.json names"
        )
    try:
        spec = from_mapping(HeadSpec, raw, "head")
        tensors = read_tensors(folder / TENSORS_NAME)
        weight, bias = tensors.pop("weight"), tensors.pop("bias")
        head = Head.of(
            spec.task,
            spec.action_units,
            spec.source,
            weight,
            bias,
            context=spec.context,
            over_time=tensors,
        )
        return head.built_on(dim, map_dim)
    except (SettingsError, KeyError, ValueError) as error:
        raise BundleError(f"{folder}: the action-unit head cannot be used ({error})") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ValueError, with its path, where it cannot be read."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error

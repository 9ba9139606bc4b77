"""The action-unit head of a bundle: from the backbone's features to numbers with a name and a unit.

    Head (found by fitted.py) ──▶ head.json, head.safetensors ──▶ ActionUnitHead
    features N D ──ActionUnitHead──▶ N K: probability that a unit is present, or its intensity from 0 to 5

A head is one linear map; what follows it depends on the task it was fitted for: sigmoid (detection), limits of 0 and 5 (intensity), or
the mean level of a softmax over six levels (ordinal).
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ausl_dist.files import read_json, write_atomically, write_json
from ausl_dist.objectives.action_units import LEVELS
from ausl_dist.release.action_units import Unit, name_of
from ausl_dist.release.verify import BundleError
from ausl_dist.settings import SettingsError, from_mapping

SPEC_NAME, TENSORS_NAME = "head.json", "head.safetensors"
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
    format: int = FORMAT


@dataclass(frozen=True)
class Head:
    """A head to be released."""

    spec: HeadSpec
    weight: Tensor  # K D; 6 K D for an ordinal head
    bias: Tensor

    @classmethod
    def of(cls, task: Task, units: tuple[int, ...], source: str, weight: Tensor, bias: Tensor) -> "Head":
        """Raises ValueError where the tensors are not of so many units."""
        rows = len(units) * (LEVELS if task == "ordinal" else 1)
        if weight.ndim != 2 or len(weight) != rows or bias.shape != (rows,):
            raise ValueError(f"{source}: tensors {tuple(weight.shape)} and {tuple(bias.shape)} are no head of {len(units)} action units")
        unit: Unit = "probability" if task == "detection" else "intensity"
        spec = HeadSpec(task, units, tuple(map(name_of, units)), unit, source)
        return cls(spec, weight.float().contiguous(), bias.float().contiguous())


class ActionUnitHead(nn.Module):
    """Scores of frames, N K float32, from the backbone's features N D."""

    weight: Tensor
    bias: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.spec = head.spec
        self.register_buffer("weight", head.weight)
        self.register_buffer("bias", head.bias)

    def forward(self, features: Tensor) -> Tensor:
        # In double precision a frame's score does not change with the number of frames beside it.
        output = F.linear(features.to(self.weight.device).double(), self.weight.double(), self.bias.double())
        if self.spec.task == "detection":
            return output.sigmoid().float()
        if self.spec.task == "intensity":
            return output.clamp(0, MAX_INTENSITY).float()
        share = output.unflatten(-1, (-1, LEVELS)).softmax(-1)  # N K L
        return (share * torch.arange(LEVELS, device=share.device)).sum(-1).float()


def write_head(folder: Path, head: Head) -> None:
    """Write head.json and head.safetensors into a bundle."""
    write_json(folder / SPEC_NAME, dataclasses.asdict(head.spec))
    write_atomically(folder / TENSORS_NAME, save({"bias": head.bias, "weight": head.weight}))


def read_head(folder: Path, dim: int) -> ActionUnitHead:
    """The head of a bundle whose features are `dim` wide. Raises BundleError where it is of another format or does not fit."""
    raw: Any = read_json(folder / SPEC_NAME)
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise BundleError(f"{folder / SPEC_NAME} is not of format {FORMAT}: install the version of ausl_dist that config.json names")
    try:
        spec = from_mapping(HeadSpec, raw, "head")
        tensors = read_tensors(folder / TENSORS_NAME)
        head = Head.of(spec.task, spec.action_units, spec.source, tensors["weight"], tensors["bias"])
    except (SettingsError, KeyError, ValueError) as error:
        raise BundleError(f"{folder}: the action-unit head cannot be used ({error})") from error
    if head.weight.shape[1] != dim:
        raise BundleError(f"{folder}: the action-unit head is for features of width {head.weight.shape[1]}, the backbone's have {dim}")
    return ActionUnitHead(head)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ValueError, with its path, where it cannot be read."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error

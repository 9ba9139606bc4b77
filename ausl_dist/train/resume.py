"""From a checkpoint back into a run, on any number of ranks and any ZeRO stage.

    model ──load_weights──▶ Engine(model) ──restore──▶ the engine as it was after `step` steps

Weights go in before the engine is made, because it takes its masters from them; exact masters
and optimizer state after.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ausl_dist.files import read_json
from ausl_dist.model.joint import JointModel, stored_buffers
from ausl_dist.run_folder import (
    BACKBONE_FILE,
    BUFFERS_FILE,
    CHECKPOINT_FORMAT,
    STATE_FILE,
    TEACHER_FILE,
)
from ausl_dist.train.arithmetic import Arithmetic
from ausl_dist.train.engine import Engine
from ausl_dist.train.pieces import StoredPieces
from ausl_dist.train.record import parse_rewind
from ausl_dist.train.stability import Rewind

# Raise it when the same clips and weights give losses that differ in their last bits.
# 2: losses use operations that a GPU repeats.
ARITHMETIC_VERSION = 2
log = logging.getLogger(__name__)


class Resume:
    """An opened checkpoint.

    It is taken to be whole (`run_folder.newest_whole_checkpoint` has looked).
    """

    def __init__(self, checkpoint: Path) -> None:
        self.path = checkpoint
        self.state: dict[str, Any] = read_json(checkpoint / STATE_FILE)
        if self.state["format"] != CHECKPOINT_FORMAT:
            raise ValueError(
                f"{checkpoint} has format {self.state['format']}; this version reads format "
                f"{CHECKPOINT_FORMAT}"
            )
        made_with = self.state.get("arithmetic_version", 1)
        if made_with != ARITHMETIC_VERSION:
            log.warning(
                "%s was made with arithmetic_version=%s, this code has %s: the run goes on with the "
                "same clips, but not to the same last bits as it would have",
                checkpoint,
                made_with,
                ARITHMETIC_VERSION,
            )
        self._pieces = StoredPieces(sorted(checkpoint.glob("rank-*.safetensors")))

    def compare(self, arithmetic: Arithmetic) -> None:
        """Say so where the run was made on another device, or with other switches."""
        differences = arithmetic.differences(self.state.get("arithmetic"))
        if differences:
            log.warning(
                "%s was made with %s: the run goes on with the same clips, but not to the same "
                "last bits as it would have",
                self.path,
                differences,
            )

    @property
    def step(self) -> int:
        """Steps that were done: the next one to do."""
        return int(self.state["step"])

    @property
    def rewinds(self) -> list[Rewind]:
        """The rewinds of the run until this was saved."""
        return [parse_rewind(entry) for entry in self.state.get("rewinds", [])]

    @property
    def corpus_digests(self) -> dict[str, str]:
        """Which index of each corpus the run's order goes over."""
        return {name: entry["digest"] for name, entry in self.state.get("corpora", {}).items()}

    def check(self, expected: Mapping[str, Any]) -> None:
        """Refuse to go on with another order of data or optimizer.

        `expected` is this run's part of the state.
        """
        for name, value in expected.items():
            if self.state.get(name) != value:
                is_code = name.endswith("_version")
                way = "go on with the code it was made with" if is_code else "set it back"
                raise ValueError(
                    f"{self.path} was made with {name}={self.state.get(name)}, "
                    f"this {'code' if is_code else 'run'} has {name}={value}: {way}, "
                    f"or start a new run (backbone.weights={self.path / BACKBONE_FILE} takes the "
                    "weights along)"
                )

    @torch.no_grad()
    def load_weights(self, model: JointModel) -> None:
        """Put the stored weights and buffers into a model that no engine has yet.

        Raises ValueError where they are of another model.
        """
        parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        shapes, stored_shapes = (
            {name: list(p.shape) for name, p in parameters.items()},
            self.state["parameters"],
        )
        differing = sorted(
            name
            for name in shapes.keys() | stored_shapes
            if shapes.get(name) != stored_shapes.get(name)
        )
        if differing:
            raise ValueError(
                f"{self.path} is of another model: {', '.join(differing[:4])} differ; "
                "backbone and objectives must stay as they were"
            )
        for name, parameter in parameters.items():
            parameter.copy_(
                self._pieces.read("master", name, 0, parameter.numel()).view_as(parameter)
            )
        stored = load_file(self.path / BUFFERS_FILE)
        for name, buffer in stored_buffers(model).items():
            if name not in stored or stored[name].shape != buffer.shape:
                raise ValueError(f"{self.path} is of another model: buffer {name} differs")
            buffer.copy_(stored[name])

    @torch.no_grad()
    def restore(self, engine: Engine) -> None:
        """Put exact masters and optimizer state into an engine whose model has had
        `load_weights`.
        """
        for piece in engine.state.pieces():
            targets = {"master": piece.master, **piece.states}
            for kind, target in targets.items():
                target.copy_(self._pieces.read(kind, piece.name, piece.offset, target.numel()))
        if engine.teacher is not None:
            engine.teacher.load_state(load_file(self.path / TEACHER_FILE))
        engine.state.set_scalars(self.state["optimizer"])

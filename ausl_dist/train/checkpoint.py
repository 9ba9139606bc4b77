"""Checkpoints that are whole or not there, written while training goes on.

    engine ──copy──▶ host memory ──thread──▶ staging folder
        ──manifest, rename──▶ RUN_FOLDER/checkpoints/step-00000100/

    rank-00000-of-00002.safetensors   this rank's pieces: "master/NAME@OFFSET", "exp_avg/NAME@OFFSET",
                                      ... (zero_state.Piece)
    buffers.safetensors               the model's buffers: batch norm statistics, banks
    teacher.safetensors               the teacher, where there is one
    backbone.safetensors              the backbone in fp32 under its own names, for release and evaluation
    objectives.safetensors            the objectives' weights in fp32 as OBJECTIVE.NAME, for release
    state.json                        the data integer (steps done), seed, order version, optimizer
                                      scalars, how it was run
    config.yaml                       the run's settings
    manifest.json                     size and SHA-256 of every file above, and of itself

No collective is used: each rank writes its own file and a note of it, rank 0 waits for the
notes. Pieces carry names and offsets, so another number of ranks or another ZeRO stage reads
them as well. Nothing is pickled.
"""

import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ausl_dist.files import read_json, remove_tree, sha256_of, write_atomically, write_json
from ausl_dist.run_folder import (
    BACKBONE_FILE,
    BUFFERS_FILE,
    CHECKPOINT_FORMAT,
    CHECKPOINTS_FOLDER,
    CONFIG_FILE,
    MANIFEST_FILE,
    OBJECTIVES_FILE,
    STATE_FILE,
    TEACHER_FILE,
    checkpoint_folder,
    checkpoint_name,
    complete_checkpoints,
    is_whole,
    manifest_text,
    step_of,
    steps_by_score,
)
from ausl_dist.train import fence
from ausl_dist.train.engine import Engine
from ausl_dist.train.pieces import StoredPieces, piece_key
from ausl_dist.train.place import RunPlace
from ausl_dist.train.remote import upload_checkpoint
from ausl_dist.train.settings import CheckpointSettings

BACKBONE_PREFIX, OBJECTIVES_PREFIX = "backbone.", "objectives."


@dataclass(frozen=True)
class Snapshot:
    """Everything of one rank that goes into a checkpoint, in host memory of its own."""

    step: int  # steps done: the data integer
    tensors: dict[str, Tensor]  # this rank's pieces
    buffers: dict[str, Tensor]
    teacher: dict[str, Tensor]  # empty where there is none
    state: dict[str, Any]  # what goes into state.json


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is in place."""

    path: Path
    step: int
    seconds: float  # from the copy to the rename
    bytes: int
    upload_problem: str | None  # why it could not be copied to object storage


class Saver:
    """Writes one rank's part of the checkpoints of one attempt.

    All ranks must call `save` for the same steps.
    """

    def __init__(
        self, place: RunPlace, settings: CheckpointSettings, timeout_seconds: float
    ) -> None:
        self._run_folder, self._attempt = place.folder, place.attempt
        self._rank, self._world_size = place.rank, place.world_size
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._saved: list[Saved] = []
        self._verified: dict[str, Stamp] = {}  # whole when last looked at, by name
        self.saved_step: int | None = None  # of the last save that was begun

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write; waits first for a write that is still under way, and for this one too
        where settings say background=false.
        """
        self.finish()
        self.saved_step = snapshot.step
        self._thread = threading.Thread(
            target=self._guarded, args=(snapshot,), name=f"save-{snapshot.step}", daemon=True
        )
        self._thread.start()
        if not self._settings.background:
            self.finish()

    def finish(self) -> None:
        """Wait for the write under way; raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what a background write has raised, if any."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def news(self) -> list[Saved]:
        """Checkpoints completed since the last call; rank 0 alone has any."""
        saved, self._saved = self._saved, []
        return saved

    def _guarded(self, snapshot: Snapshot) -> None:
        try:
            self._write(snapshot)
        except BaseException as error:  # noqa: BLE001 - handed to the training thread, which raises it
            self._error = error

    def _write(self, snapshot: Snapshot) -> None:
        started = time.monotonic()
        staging = (
            self._run_folder
            / CHECKPOINTS_FOLDER
            / f".staging-{checkpoint_name(snapshot.step)}-attempt-{self._attempt:04d}"
        )
        staging.mkdir(parents=True, exist_ok=True)
        name = f"rank-{self._rank:05d}-of-{self._world_size:05d}.safetensors"
        write_json(
            staging / _note(self._rank),
            {name: _write_tensors(staging / name, snapshot.tensors)},
        )
        if self._rank == 0:
            files = self._gather_notes(staging)
            files |= self._write_common(staging, snapshot)
            write_atomically(staging / MANIFEST_FILE, manifest_text(snapshot.step, files))
            self._publish(staging, snapshot.step)
            seconds = time.monotonic() - started
            total = sum(entry["bytes"] for entry in files.values())
            self._saved.append(
                Saved(
                    checkpoint_folder(self._run_folder, snapshot.step),
                    snapshot.step,
                    seconds,
                    total,
                    self._upload(snapshot.step),
                )
            )

    def _gather_notes(self, staging: Path) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_seconds
        files: dict[str, Any] = {}
        for rank in range(self._world_size):
            note = staging / _note(rank)
            while not note.exists():
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"rank {rank} did not write its part of {staging.name} within "
                        f"{self._timeout_seconds:.0f} s"
                    )
                time.sleep(0.02)
            files |= read_json(note)
            note.unlink()
        return files

    def _write_common(self, staging: Path, snapshot: Snapshot) -> dict[str, Any]:
        stored = StoredPieces(sorted(staging.glob("rank-*.safetensors")))
        shapes = snapshot.state["parameters"]
        weights = {
            prefix: stored.whole("master", prefix)
            for prefix in (BACKBONE_PREFIX, OBJECTIVES_PREFIX)
        }
        backbone, objectives = (
            {_own_name(name): flat.view(shapes[name]) for name, flat in found.items()}
            for found in weights.values()
        )
        buffers = {
            name: buffer
            for name, buffer in snapshot.buffers.items()
            if name.startswith(BACKBONE_PREFIX)
        }
        backbone |= {_own_name(name): buffer for name, buffer in buffers.items()}
        entries = {
            BUFFERS_FILE: _write_tensors(staging / BUFFERS_FILE, snapshot.buffers),
            BACKBONE_FILE: _write_tensors(staging / BACKBONE_FILE, backbone),
            OBJECTIVES_FILE: _write_tensors(staging / OBJECTIVES_FILE, objectives),
        }
        if snapshot.teacher:
            entries[TEACHER_FILE] = _write_tensors(staging / TEACHER_FILE, snapshot.teacher)
        write_json(staging / STATE_FILE, snapshot.state)
        write_atomically(staging / CONFIG_FILE, (self._run_folder / CONFIG_FILE).read_bytes())
        return entries | {name: _entry(staging / name) for name in (STATE_FILE, CONFIG_FILE)}

    def _publish(self, staging: Path, step: int) -> None:
        fence.check(self._run_folder, self._attempt)
        _flush_folder(staging)
        target = checkpoint_folder(self._run_folder, step)
        if target.exists():  # a damaged one that the resume passed over
            remove(target)
        os.rename(staging, target)
        _flush_folder(target.parent)
        self._verified[target.name] = _stamp(target)
        self._remove_superseded()

    def _remove_superseded(self) -> None:
        """Remove what need not be kept. Only whole checkpoints count: a damaged one must not
        push out one that a resume could use. It goes when it is older than all that are kept.
        """
        there = {step_of(folder): folder for folder in complete_checkpoints(self._run_folder)}
        whole = {step for step, folder in there.items() if self._is_whole(folder)}
        kept = self._keep(whole)
        for step, folder in there.items():
            if step not in kept and (step in whole or step < min(kept, default=0)):
                remove(folder)

    def _is_whole(self, checkpoint: Path) -> bool:
        # Hashing gigabytes after every save would be dear: once is enough while no file
        # changes.
        stamp = _stamp(checkpoint)
        if self._verified.get(checkpoint.name) != stamp:
            if not is_whole(checkpoint):
                return False
            self._verified[checkpoint.name] = stamp
        return True

    def _upload(self, step: int) -> str | None:
        """Copy the checkpoint to object storage, where settings say so; returns what went
        wrong: the one on disk is good without it.
        """
        if self._settings.upload is None:
            return None
        try:
            upload_checkpoint(
                checkpoint_folder(self._run_folder, step), self._settings.upload, self._keep
            )
        except OSError as error:
            return str(error)
        return None

    def _keep(self, steps: set[int]) -> set[int]:
        best = steps_by_score(self._run_folder, among=steps)[: self._settings.keep_best]
        return steps_to_keep(steps, self._settings, best)


def steps_to_keep(
    steps: Iterable[int], settings: CheckpointSettings, best: Collection[int]
) -> set[int]:
    """Of the steps that there are checkpoints of, those to keep: the last ones, the n-th ones,
    and the `best`.
    """
    ordered = sorted(steps)
    forever = settings.keep_every_steps
    return {
        *ordered[-settings.keep_last :],
        *(step for step in ordered if step in best or (forever and step % forever == 0)),
    }


def sweep(run_folder: Path) -> None:
    """Remove what killed processes left half written or half removed.

    For rank 0, once, before its attempt writes anything.
    """
    folder = run_folder / CHECKPOINTS_FOLDER
    for path in folder.glob(".*") if folder.is_dir() else ():
        # an older attempt may still be at it; it is fenced
        remove_tree(path, ignore_errors=True)


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in host memory that later steps cannot change."""
    copies = {
        name: torch.empty(t.shape, dtype=t.dtype, pin_memory=t.is_cuda).copy_(
            t, non_blocking=True
        )
        for name, t in tensors.items()
    }
    # Not the whole device: the loader's decoding on other streams is nobody's concern here.
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.current_stream().synchronize()
    return copies


def take_snapshot(step: int, engine: Engine, state: Mapping[str, Any]) -> Snapshot:
    """Copy what an engine holds out of the way of its next step; this is all that training
    waits for.
    """
    owned = engine.state.pieces_to_save()
    tensors = {piece_key("master", piece.name, piece.offset): piece.master for piece in owned}
    tensors |= {
        piece_key(kind, piece.name, piece.offset): tensor
        for piece in owned
        for kind, tensor in piece.states.items()
    }
    own_state = {
        "format": CHECKPOINT_FORMAT,
        "step": step,
        **state,
        "optimizer": engine.state.scalars(),
        "parameters": engine.shapes(),
    }
    teacher = {} if engine.teacher is None else to_host(engine.teacher.state())
    return Snapshot(step, to_host(tensors), to_host(engine.buffers()), teacher, own_state)


Stamp = dict[str, tuple[int, int]]  # by file name: bytes, time of the last change


def _stamp(checkpoint: Path) -> Stamp:
    found = {path.name: path.stat() for path in checkpoint.iterdir()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # most often the disk is full
        raise OSError(f"{path} cannot be written ({error})") from error
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return _entry(path)


def _own_name(name: str) -> str:
    """What a tensor of the model is called in a file of its own: timm's name, readout.NAME, or
    OBJECTIVE.NAME.
    """
    for prefix in ("backbone.net.", BACKBONE_PREFIX, OBJECTIVES_PREFIX):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _note(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def remove(folder: Path) -> None:
    """Remove a checkpoint; killed half-way, what is left does not look like one."""
    trash = folder.with_name(f".removed-{folder.name}-{os.getpid()}")
    os.rename(folder, trash)
    remove_tree(trash)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

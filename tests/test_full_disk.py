"""A disk that fills up: every writer ends in one sentence that names the file, what was there
stays as it was, and with room again the same work succeeds.
"""

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.faces.video import Frame
from ausl_dist.files import write_atomically
from ausl_dist.json_lines import LineWriter, append_json_line
from ausl_dist.release.overlay import Overlay
from ausl_dist.release.tables import TableWriter
from ausl_dist.shards.storage import upload
from ausl_dist.shards.writer import ShardWriter
from ausl_dist.train.checkpoint import _write_tensors

ROOM = 4096  # bytes that a file may have
NOISE = np.random.default_rng(0).bytes(1 << 17)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond ROOM: the kernel refuses the write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_table(path: Path) -> None:
    with TableWriter(path, 64) as table:
        for video in range(40):
            table.write(f"{video}.mp4", [(0, 0, 0.0)], torch.randn(1, 64))


def write_shard(path: Path) -> None:
    writer = ShardWriter(path.parent)
    writer.add_blocks(NOISE)
    writer.close()


def write_line(path: Path) -> None:
    lines = LineWriter(path)
    try:
        for _ in range(3):
            lines.write({"text": "x" * ROOM})
    finally:
        lines.close()


def append_lines(path: Path) -> None:
    for _ in range(3):
        append_json_line(path, "x" * (ROOM // 2))


def send(path: Path) -> None:
    source = path.parent.parent / "source"
    source.exists() or source.write_bytes(NOISE)
    upload(source, str(path))


class NoisyFaces:
    """A video that is not to be compressed."""

    fps = 25.0

    def frames(self) -> Iterator[Frame]:
        pixels = np.frombuffer(NOISE[: 3 * 128**2], np.uint8).reshape(128, 128, 3)
        yield from (Frame(number, number, pixels, splice=False) for number in range(8))


class NoHead:
    head = None


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.json": lambda path: write_atomically(path, NOISE),
    "a.csv": write_table,
    "a.parquet": write_table,
    "shard-000000.tar": write_shard,
    "metrics.jsonl": write_line,
    "ledger.jsonl": append_lines,
    "copy.tar": send,
    "a.safetensors": lambda path: _write_tensors(path, {"a": torch.zeros(ROOM)}),
    "drawn.mp4": lambda path: Overlay(NoisyFaces(), NoHead()).write(path),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_a_sentence_that_names_the_file(tmp_path: Path, name: str) -> None:
    folder, write = tmp_path / "out", WRITERS[name]
    folder.mkdir()
    send(folder / "first")
    with full_disk(), pytest.raises(OSError, match=Path(name).stem):
        write(folder / name)
    write(folder / name)
    assert {path.name for path in folder.iterdir()} == {"first", name}

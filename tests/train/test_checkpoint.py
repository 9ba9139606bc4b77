"""A checkpoint is whole or not there: every cut or flipped byte is found, and the one before is
used.
"""

import json
import logging
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ausl_dist.run_folder import (
    checkpoint_folder,
    complete_checkpoints,
    damage,
    newest_whole_checkpoint,
    step_of,
)
from ausl_dist.train import fence
from ausl_dist.train.checkpoint import Saver, Snapshot, sweep, to_host
from ausl_dist.train.pieces import StoredPieces, piece_key
from ausl_dist.train.place import RunPlace
from ausl_dist.train.resume import Resume
from ausl_dist.train.settings import CheckpointSettings
from tests.support.fake_cuda import FakeCuda, fake_cuda

__all__ = ["fake_cuda"]

SHAPES = {"backbone.net.conv": [4, 5], "objectives.a.head": [3]}
WHOLE = {
    "backbone.net.conv": torch.arange(20.0),
    "objectives.a.head": torch.tensor([1.0, 2.0, 3.0]),
}


def snapshot(step: int, rank: int) -> Snapshot:
    """Rank 0 holds the first 7 elements of the convolution, rank 1 the rest."""
    conv = WHOLE["backbone.net.conv"] + step
    mine = {0: (0, conv[:7]), 1: (7, conv[7:])}[rank]
    tensors = {piece_key("master", "backbone.net.conv", mine[0]): mine[1].clone()}
    if rank == 1:
        tensors[piece_key("master", "objectives.a.head", 0)] = WHOLE[
            "objectives.a.head"
        ].clone()
    state = {"format": 1, "step": step, "parameters": SHAPES}
    return Snapshot(step, tensors, {"backbone.net.mean": torch.ones(2)}, {}, state)


def savers(folder: Path, attempt: int = 1, **settings: Any) -> list[Saver]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("name: test\n")
    made = CheckpointSettings(every_steps=1, **settings)
    return [
        Saver(RunPlace(folder, attempt, rank, 2), made, timeout_seconds=5) for rank in (0, 1)
    ]


def save(ranks: list[Saver], *steps: int) -> None:
    for step in steps:
        for rank in (1, 0):
            ranks[rank].save(snapshot(step, rank))
        for saver in ranks:
            saver.finish()


def test_parts_of_all_ranks_make_a_whole_checkpoint_with_the_backbone_under_its_own_names(
    tmp_path: Path,
) -> None:
    ranks = savers(tmp_path)
    save(ranks, 5)
    checkpoint = newest_whole_checkpoint(tmp_path)
    assert checkpoint == tmp_path / "checkpoints" / "step-00000005"
    backbone = load_file(checkpoint / "backbone.safetensors")
    assert torch.equal(backbone["conv"], (WHOLE["backbone.net.conv"] + 5).view(4, 5))
    assert torch.equal(backbone["mean"], torch.ones(2))
    assert torch.equal(
        load_file(checkpoint / "objectives.safetensors")["a.head"], WHOLE["objectives.a.head"]
    )
    (saved,) = ranks[0].news()
    assert saved.bytes == sum(
        entry["bytes"]
        for entry in json.loads((checkpoint / "manifest.json").read_text())["files"].values()
    )
    assert ranks[0].news() == []


def test_every_file_cut_or_with_a_flipped_byte_is_found_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(savers(tmp_path), 1, 2)
    before, newest = complete_checkpoints(tmp_path)
    assert damage(newest) is None
    files = sorted(path.name for path in newest.iterdir())
    assert len(files) == 8
    whole = tmp_path / "whole"
    shutil.copytree(newest, whole)
    chance = random.Random(0)
    for name in files:
        data = (whole / name).read_bytes()
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        for spoilt in (data[: chance.randrange(len(data))], bytes(flipped), None):
            (newest / name).unlink() if spoilt is None else (newest / name).write_bytes(spoilt)
            assert damage(newest) is not None, f"{name} spoilt unnoticed"
            with caplog.at_level(logging.ERROR):
                assert newest_whole_checkpoint(tmp_path) == before
            assert newest.name in caplog.text
            (newest / name).write_bytes(data)
    assert newest_whole_checkpoint(tmp_path) == newest


def test_a_run_of_nothing_but_damaged_checkpoints_is_not_started_from_nothing(
    tmp_path: Path,
) -> None:
    assert newest_whole_checkpoint(tmp_path) is None
    save(savers(tmp_path), 1)
    (tmp_path / "checkpoints" / "step-00000001" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="every checkpoint"):
        newest_whole_checkpoint(tmp_path)


def test_a_save_that_was_killed_leaves_nothing_that_looks_like_a_checkpoint(
    tmp_path: Path,
) -> None:
    ranks = savers(tmp_path)
    save(ranks, 1)
    ranks[1].save(snapshot(2, 1))  # rank 0 never writes its part
    ranks[1].finish()
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-00000001"]
    sweep(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_a_rank_that_never_writes_is_named(tmp_path: Path) -> None:
    lonely = Saver(
        RunPlace(_ready(tmp_path), 1, 0, 2), CheckpointSettings(), timeout_seconds=0.2
    )
    lonely.save(snapshot(1, 0))
    with pytest.raises(TimeoutError, match="rank 1"):
        lonely.finish()


def _ready(folder: Path) -> Path:
    (folder / "config.yaml").write_text("name: test\n")
    return folder


def test_what_is_kept(tmp_path: Path) -> None:
    save(savers(tmp_path, keep_last=2, keep_every_steps=3), *range(1, 8))
    assert [int(path.name[-2:]) for path in complete_checkpoints(tmp_path)] == [3, 6, 7]


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    save(savers(tmp_path), 1, 2)
    (tmp_path / "checkpoints" / "step-00000002" / "state.json").write_text("{}")
    save(savers(tmp_path), 2)
    assert newest_whole_checkpoint(tmp_path) == tmp_path / "checkpoints" / "step-00000002"


def test_a_late_process_of_an_older_attempt_cannot_write(tmp_path: Path) -> None:
    first = fence.claim(tmp_path)
    late = savers(tmp_path, attempt=first)
    save(late, 1)
    second = fence.claim(tmp_path)
    assert (first, second) == (1, 2)
    late[1].save(snapshot(2, 1))
    late[0].save(snapshot(2, 0))
    with pytest.raises(fence.FencedError, match="attempt 2"):
        late[0].finish()
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["step-00000001"]


def test_a_failed_background_write_is_raised_in_the_training_thread(tmp_path: Path) -> None:
    (_ready(tmp_path) / "checkpoints").write_text("in the way")
    saver = Saver(RunPlace(tmp_path, 1, 0, 1), CheckpointSettings(), timeout_seconds=5)
    saver.save(snapshot(1, 0))
    with pytest.raises(OSError, match="checkpoints"):
        saver.finish()


def test_pieces_are_read_however_they_were_cut(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    save_file(
        {
            piece_key("master", "a@b.c", 0): whole[:3].clone(),
            piece_key("master", "a@b.c", 3): whole[3:4].clone(),
        },
        tmp_path / "0",
    )
    save_file({piece_key("master", "a@b.c", 4): whole[4:].clone()}, tmp_path / "1")
    stored = StoredPieces([tmp_path / "1", tmp_path / "0"])
    for first in range(10):
        for last in range(first + 1, 11):
            assert torch.equal(
                stored.read("master", "a@b.c", first, last - first), whole[first:last]
            )
    assert torch.equal(stored.whole("master", "a")["a@b.c"], whole)
    with pytest.raises(ValueError, match="another model"):
        stored.read("master", "a@b.c", 5, 6)
    with pytest.raises(ValueError, match="not in the checkpoint"):
        stored.read("master", "d", 0, 1)
    with pytest.raises(ValueError, match="lacks its elements from 0 on"):
        StoredPieces([tmp_path / "1"]).length("master", "a@b.c")


def test_a_new_checkpoint_is_kept_whatever_damaged_ones_lie_beside_it(tmp_path: Path) -> None:
    first = savers(tmp_path, keep_last=2)
    save(first, 10, 20, 30)  # 10 goes: two are kept
    for step in (20, 30):
        spoil(tmp_path / "checkpoints" / f"step-{step:08d}" / "backbone.safetensors")
    again = savers(tmp_path, keep_last=2)
    save(again, 12)
    newest = newest_whole_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000012"
    save(again, 14, 16)
    # damaged ones that are newer stay until they are written anew: nobody but a user may judge
    # them
    names = [folder.name[-2:] for folder in complete_checkpoints(tmp_path)]
    assert names == ["14", "16", "20", "30"]
    save(again, 30, 40)
    assert [folder.name[-2:] for folder in complete_checkpoints(tmp_path)] == ["30", "40"]


def test_a_byte_that_flips_while_the_run_goes_on_is_noticed_by_the_next_save(
    tmp_path: Path,
) -> None:
    ranks = savers(tmp_path, keep_last=2)
    save(ranks, 10, 20)
    spoil(tmp_path / "checkpoints" / "step-00000020" / "buffers.safetensors")
    save(ranks, 30)
    # 20 does not count: 10 is the second whole one
    assert [folder.name[-2:] for folder in complete_checkpoints(tmp_path)] == ["10", "20", "30"]


def test_of_a_checkpoint_that_is_a_link_the_link_alone_is_removed(tmp_path: Path) -> None:
    ranks = savers(tmp_path, keep_last=1)
    save(ranks, 10)
    elsewhere = tmp_path / "elsewhere"
    os.rename(checkpoint_folder(tmp_path, 10), elsewhere)
    checkpoint_folder(tmp_path, 10).symlink_to(elsewhere)
    save(ranks, 20)
    assert [step_of(folder) for folder in complete_checkpoints(tmp_path)] == [20]
    assert (elsewhere / "manifest.json").is_file()


def test_a_checkpoint_of_code_that_rounds_otherwise_says_so_when_it_is_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(savers(tmp_path), 5)
    checkpoint = newest_whole_checkpoint(tmp_path)
    assert checkpoint is not None
    assert Resume(checkpoint).step == 5
    assert "arithmetic_version=1" in caplog.text
    assert "not to the same last bits" in caplog.text


def test_copies_of_a_gpu_are_whole_before_the_writer_sees_them(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into pinned memory, and waited for on the training's stream: the loader's goes on."""
    empty, copy = torch.empty, torch.Tensor.copy_

    def pinned(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        fake_cuda.note("pinned", pin_memory)
        return empty(*shape, **options)

    def copied(
        target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False
    ) -> torch.Tensor:
        fake_cuda.note("copy", non_blocking)
        return copy(target, source)

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    held = {"weight": torch.arange(3.0), "bias": torch.ones(2)}
    assert torch.equal(to_host(held)["weight"], held["weight"])
    assert not fake_cuda.calls("synchronize"), "a run on the CPU of a machine with a GPU"
    fake_cuda.log.clear()
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    to_host(held)
    assert [entry[1:] for entry in fake_cuda.log] == [
        *([("pinned", True), ("copy", True)] * 2),
        ("synchronize", "default"),
    ]


def spoil(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

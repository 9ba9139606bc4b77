"""What a rank of the doctor's short job does on a node with GPUs: on its own one."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from launch.node_checks import NodeChecks
from tests.support.fake_cuda import FakeCuda, fake_cuda

__all__ = ["fake_cuda"]


@pytest.fixture
def checks(fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> NodeChecks:
    """The second rank of a node of two."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "1234")
    return NodeChecks(tmp_path, {}, 0.0)


def test_it_names_its_own_gpu_as_torch_counts_them(
    checks: NodeChecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nvidia-smi counts cards that this job may not see."""
    cards = [SimpleNamespace(name=f"Card {n}", total_memory=80 << 30) for n in range(2)]
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: cards[number])
    assert checks.accelerator() == "Card 1, 80 GiB"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"set cluster\.gpus_per_node"):
        checks.accelerator()


def test_its_group_and_every_barrier_are_on_its_own_gpu(
    checks: NodeChecks, fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone NCCL takes the current device, and that is GPU 0 on every rank."""
    made: list[tuple[str, Any, int]] = []

    def init(backend: str, *, timeout: object, device_id: object) -> None:
        made.append((backend, device_id, fake_cuda.current_device()))

    monkeypatch.setattr(dist, "init_process_group", init)
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    assert checks.meet() == "2 ranks over nccl at node1:1234"
    assert made == [("nccl", torch.device("cuda", 1), 1)]

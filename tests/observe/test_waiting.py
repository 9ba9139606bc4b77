"""In synchronous training all steps are equally long; the clock must tell who is slow from who
waits.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ausl_dist.observe.waiting import COLLECTIVES, WaitingClock
from launch.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, time, torch, torch.distributed as dist
from ausl_dist.observe.waiting import WaitingClock
torch.set_num_threads(1)
dist.init_process_group("gloo")
dist.barrier()
clock = WaitingClock()
clock.start()
time.sleep(0.3 * dist.get_rank())
dist.all_reduce(torch.ones(4))
print(f"{clock.take():.3f} {clock.take():.3f}", flush=True)
clock.stop()
dist.destroy_process_group()
"""


def test_the_rank_that_comes_first_waits_and_the_slow_one_does_not() -> None:
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (waited, after), (slow, _) = (
        [float(word) for word in rank.communicate(timeout=120)[0].split()] for rank in ranks
    )
    assert waited > 0.2
    assert slow < 0.1
    assert after == 0


def test_stopping_leaves_torch_as_it_was() -> None:
    before = [getattr(dist, name) for name in COLLECTIVES]
    clock = WaitingClock()
    clock.start()
    assert [getattr(dist, name) for name in COLLECTIVES] != before
    clock.stop()
    assert [getattr(dist, name) for name in COLLECTIVES] == before


class OnGpu:
    is_cuda = True


class HalfASecond:
    """An event of a GPU, and the half second until the next one."""

    def record(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, after: "HalfASecond") -> float:
        return 500.0


def test_on_a_gpu_every_collective_is_timed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the host's clock a collective of a GPU takes no time: the call returns at once."""
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: HalfASecond())
    for name in ("all_reduce", "all_gather", "reduce_scatter"):
        monkeypatch.setattr(dist, name, lambda *_, **__: None)
    clock = WaitingClock()
    clock.start()
    dist.all_reduce(OnGpu())  # type: ignore[arg-type]
    dist.all_reduce(tensor=OnGpu())  # type: ignore[arg-type]
    dist.all_gather([OnGpu()], OnGpu())  # type: ignore[arg-type,list-item]
    dist.reduce_scatter(OnGpu(), [OnGpu()])  # type: ignore[arg-type,list-item]
    clock.stop()
    assert clock.take() == 2.0


def test_compiled_code_keeps_its_graph_whole() -> None:
    """With `fullgraph`, torch.compile fails where something it cannot take into the graph
    stands in the way.
    """
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    clock = WaitingClock()
    clock.start()

    def total(values: torch.Tensor) -> torch.Tensor:
        values = values * 2
        dist.all_reduce(values)
        return values + 1

    try:
        assert torch.compile(total, backend="eager", fullgraph=True)(
            torch.ones(3)
        ).tolist() == [
            3,
            3,
            3,
        ]
    finally:
        clock.stop()
        dist.destroy_process_group()

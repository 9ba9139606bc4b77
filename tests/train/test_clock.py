"""Where a step's time went: on a GPU by its own events, without waiting for it."""

from collections.abc import Iterator

import pytest
import torch

from ausl_dist.train.clock import GpuClock, make_clock


class Event:
    """Events of a GPU that is behind: they pass when `passed` says so."""

    times: Iterator[float]
    passed = 0
    made = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        Event.made += 1
        self.number = Event.made

    def record(self) -> None:
        self.time = next(Event.times)

    def query(self) -> bool:
        return self.number <= Event.passed

    def elapsed_time(self, other: "Event") -> float:
        return other.time - self.time

    def synchronize(self) -> None:
        pytest.fail("the host waits")


def test_parts_are_the_gpus_own_time_of_the_last_step_that_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.times, Event.made = iter([0.0, 10.0, 40.0, 41.0, 50.0, 60.0, 90.0, 92.0]), 0
    clock = make_clock(torch.device("cuda", 0))
    assert isinstance(clock, GpuClock)

    def step() -> dict[str, float]:
        clock.start()
        clock.lap("forward")
        clock.lap("backward")
        clock.lap("optimizer")
        return clock.seconds()

    Event.passed = 1
    assert step() == {"forward": 0.0, "backward": 0.0, "optimizer": 0.0}
    Event.passed = 5
    second = step()
    assert second == pytest.approx({"forward": 0.010, "backward": 0.030, "optimizer": 0.001})


def test_the_hosts_clock_adds_parts_of_one_name() -> None:
    clock = make_clock(torch.device("cpu"))
    clock.start()
    for name in ("backward", "reduce", "backward"):
        clock.lap(name)
    assert set(clock.seconds()) == {"backward", "reduce"}
    assert all(seconds >= 0 for seconds in clock.seconds().values())

"""How long the parts of a step take: by the host's clock on a CPU, by the GPU's own on a GPU.

    start ── forward ── lap("forward") ── backward ── lap("backward") ── ... ── seconds()

A GPU is given its work ahead of time, so that the host's clock would find the backward pass
where the host next waits, in the optimizer. There a lap is a CUDA event in the stream, and
`seconds` are those of the newest step whose events have all passed, mostly the one before:
nobody waits to know.
"""

import time
from collections import deque
from itertools import pairwise
from typing import Protocol

import torch

Laps = list[tuple[str, torch.cuda.Event]]


class StepClock(Protocol):
    """Times the parts of one step after another."""

    def start(self) -> None:
        """A step begins."""

    def lap(self, name: str) -> None:
        """What was done since the last lap was `name`; parts of one name are added up."""

    def seconds(self) -> dict[str, float]:
        """Seconds of a step by part."""


def make_clock(device: torch.device) -> StepClock:
    return GpuClock() if device.type == "cuda" else HostClock()


class HostClock:
    """The host's clock: right where work is done when a call returns."""

    def start(self) -> None:
        self._seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        return self._seconds


class GpuClock:
    """Events in the current stream."""

    def __init__(self) -> None:
        self._steps: deque[Laps] = deque()
        self._known: dict[str, float] = {}

    def start(self) -> None:
        self._steps.append([("", self._event())])

    def lap(self, name: str) -> None:
        self._steps[-1].append((name, self._event()))

    def seconds(self) -> dict[str, float]:
        while self._steps and self._steps[0][-1][1].query():
            self._known = _between(self._steps.popleft())
        # Of the first step nothing is known yet: its parts are named, for the tables of
        # metrics.
        names = [name for name, _ in self._steps[-1][1:]] if self._steps else []
        return dict.fromkeys(names, 0.0) | self._known

    @staticmethod
    def _event() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _between(laps: Laps) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for (_, before), (name, after) in pairwise(laps):
        seconds[name] = seconds.get(name, 0.0) + before.elapsed_time(after) / 1000
    return seconds

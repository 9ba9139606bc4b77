"""Share of time the GPU has no work of ours between steps, by CUDA events and without
synchronising.

    ... step k ...|E            |S ... step k + 1 ...|E            |S ...        E, S: events in the
                                                                   GPU's own queue
                   <- starved ->                      <- starved ->

The loop's `enter("step")` records S, whatever phase comes after it E. Both are passed by the
GPU, not by the host: where the host runs ahead there is no gap, however long the loop waits.
Host-blocked time (`ausl_data_blocked_ratio`) is the other side of the same thing.
"""

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

STEP_PHASE = "step"
STEPS_KEPT = 64


class StarvationClock:
    """Fed with the loop's phases; `share` is over the last steps that the GPU has finished."""

    def __init__(self, record_event: Callable[[], Any]) -> None:
        self._record_event = record_event
        self._phase = ""
        # S of a step, its E, S of the next one
        self._pending: deque[tuple[Any, Any, Any]] = deque()
        self._start: Any = None
        self._end: Any = None
        # milliseconds: starved, from S to S
        self._gaps: deque[tuple[float, float]] = deque(maxlen=STEPS_KEPT)

    def enter(self, phase: str) -> None:
        if phase == STEP_PHASE:
            start = self._record_event()
            if self._end is not None:
                self._pending.append((self._start, self._end, start))
            self._start, self._end = start, None
        elif self._phase == STEP_PHASE:
            self._end = self._record_event()
        self._phase = phase
        while self._pending and self._pending[0][2].query():
            start, end, following = self._pending.popleft()
            self._gaps.append((end.elapsed_time(following), start.elapsed_time(following)))

    @property
    def share(self) -> float | None:
        """0 to 1; None before the first two steps have passed."""
        gaps = list(self._gaps)
        total = sum(whole for _, whole in gaps)
        return sum(starved for starved, _ in gaps) / total if total > 0 else None


def cuda_event() -> Any:
    """An event recorded in the current stream of this rank's GPU."""
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def clock_for_this_rank() -> StarvationClock | None:
    """A clock where this process computes on a GPU."""
    torch = sys.modules.get("torch")
    return (
        StarvationClock(cuda_event)
        if torch is not None and torch.cuda.is_initialized()
        else None
    )

"""How long this rank waits for the others: what tells a slow rank from those that it holds up.

In synchronous training every rank's step is as long as the slowest one's. The difference lies
inside the collectives: who comes last waits least. The clock therefore times torch's
collectives, whoever calls them (objectives, engine, DeepSpeed):

    on the host by the clock; on a GPU by a pair of CUDA events around each, read when they have
    passed, without synchronising.

Collectives that run beside the computation (`async_op`) do not hold it up where they are
called, and are not counted.
"""

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "gather",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
)


class WaitingClock:
    """Times the collectives of the thread that started it, from `start` to `stop`; `take` gives
    the seconds since the last `take`.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: deque[tuple[Any, Any]] = deque()
        self._originals: dict[str, Callable[..., Any]] = {}
        self._thread = 0

    def start(self) -> None:
        import torch.distributed as dist

        self._thread = threading.get_ident()
        for name in COLLECTIVES:
            self._originals[name] = getattr(dist, name)
            setattr(dist, name, self._timed(self._originals[name]))

    def stop(self) -> None:
        import torch.distributed as dist

        for name, original in self._originals.items():
            setattr(dist, name, original)
        self._originals = {}

    def take(self) -> float:
        while self._events and self._events[0][1].query():
            begin, end = self._events.popleft()
            self._seconds += begin.elapsed_time(end) / 1000
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _timed(self, collective: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        @functools.wraps(collective)
        def timed(*arguments: Any, **options: Any) -> Any:
            # torch.compile knows torch's own function, and takes it into the graph; a clock in
            # its place would cut the graph in two.
            if (
                torch.compiler.is_compiling()
                or options.get("async_op")
                or threading.get_ident() != self._thread
            ):
                return collective(*arguments, **options)
            if _on_gpu([*arguments, *options.values()]):
                return self._time_on_gpu(collective, arguments, options)
            begin = time.perf_counter()
            try:
                return collective(*arguments, **options)
            finally:
                self._seconds += time.perf_counter() - begin

        return timed

    def _time_on_gpu(
        self,
        collective: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        import torch

        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        result = collective(*arguments, **options)
        end.record()
        self._events.append((begin, end))
        return result


def _on_gpu(values: list[Any]) -> bool:
    """Whether some tensor lies on a GPU, where a call returns before its work is done;
    `all_gather` and its like are given lists of them.
    """
    each = [part for v in values for part in (v if isinstance(v, list | tuple) else [v])]
    return any(getattr(part, "is_cuda", False) for part in each)

"""Unpacked chunks in memory, from the moment a lane will need them to the moment it has used
the last clip of them.

The order says of each clip until when its lane needs the chunk it lies in (Slot.until). A chunk
stays while any lane needs it, so that the clips of a shuffle window share one read; after that
it stays while there is room, for small corpora whose next epoch is near.
"""

import heapq
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from ausl_dist.stream.ledger import Clips
from ausl_dist.stream.order import Slot

ChunkKey = tuple[str, int]  # corpus, row in its chunk table


@dataclass
class _Held:
    clips: "Future[Clips]"
    bytes: int
    lanes: dict[int, int] = field(default_factory=dict)  # lane -> until which of its counts


class ChunkStore:
    """Holds chunks within `max_bytes`; `load` fetches and unpacks one, in the executor's
    threads.

    It is told the corpus, the row of the chunk, and when it was asked for (time.monotonic).
    """

    def __init__(
        self, load: Callable[[str, int, float], Clips], executor: Executor, max_bytes: int
    ) -> None:
        self._load, self._executor, self._max_bytes = load, executor, max_bytes
        self._held: dict[ChunkKey, _Held] = {}
        # needed by no lane, least recently needed first
        self._idle: OrderedDict[ChunkKey, None] = OrderedDict()
        # (lane, corpus) -> heap
        self._due: dict[tuple[int, str], list[tuple[int, ChunkKey]]] = defaultdict(list)
        self.held_bytes = 0
        self._room = threading.Condition()

    def request(
        self, lane: int, slot: Slot, size: int, may_wait: Callable[[], bool]
    ) -> "Future[Clips]":
        """The clips of the slot's chunk, of `size` bytes; waits for room for as long as
        `may_wait` says so.
        """
        key = slot.corpus, slot.chunk
        with self._room:
            held = self._held.get(key)
            if held is None:
                while not self._make_room(size) and may_wait():
                    self._room.wait(0.1)
                clips = self._executor.submit(self._load, *key, time.monotonic())
                held = self._held[key] = _Held(clips, size)
                self.held_bytes += size
            self._idle.pop(key, None)
            if held.lanes.get(lane, -1) < slot.until:
                held.lanes[lane] = slot.until
                heapq.heappush(self._due[lane, slot.corpus], (slot.until, key))
            return held.clips

    def used(self, lane: int, slot: Slot) -> None:
        """Say that the slot's clip has been decoded; chunks that its lane needs no more become
        free.
        """
        due = self._due[lane, slot.corpus]
        with self._room:
            while due and due[0][0] <= slot.count:
                until, key = heapq.heappop(due)
                held = self._held.get(key)
                if held is not None and held.lanes.get(lane) == until:
                    del held.lanes[lane]
                    if not held.lanes:
                        self._idle[key] = None
                        if held.clips.done() and held.clips.exception():
                            self._drop(key)  # it may be there again next time
            self._room.notify_all()

    def change(self, key: ChunkKey, change: Callable[[Clips], None]) -> None:
        """Change the clips of a chunk that is held, or is on its way, for all who have asked."""

        def changed(clips: "Future[Clips]") -> None:
            if not clips.cancelled() and clips.exception() is None:
                change(clips.result())

        with self._room:
            held = self._held.get(key)
        if held is not None:
            held.clips.add_done_callback(changed)

    def _make_room(self, size: int) -> bool:
        while self.held_bytes + size > self._max_bytes and self._idle:
            self._drop(next(iter(self._idle)))
        return self.held_bytes + size <= self._max_bytes

    def _drop(self, key: ChunkKey) -> None:
        del self._idle[key]
        self.held_bytes -= self._held.pop(key).bytes

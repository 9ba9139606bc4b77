"""The chunk store: a window's clips share one read, memory stays bounded, and nothing waits for
ever.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ausl_dist.stream.chunks import ChunkStore, Clips
from ausl_dist.stream.order import Order, Slot


class Counting:
    """Loads nothing, and counts."""

    def __init__(self) -> None:
        self.loads: list[tuple[str, int]] = []

    def __call__(self, corpus: str, number: int, asked: float) -> Clips:
        self.loads.append((corpus, number))
        return []


def walk(order: Order, lanes: range, steps: int, memory_chunks: int) -> tuple[Counting, int]:
    """Go through the order as the loader does, one step ahead; returns what was loaded and the
    most chunks held.
    """
    load, most = Counting(), 0
    with ThreadPoolExecutor(2) as pool:
        store = ChunkStore(load, pool, memory_chunks * 100)
        waiting: list[list[tuple[int, Slot]]] = []
        for step in range(steps):
            batch = order.batch(step, lanes)
            for lane, slot in batch:
                store.request(lane, slot, 100, lambda: False)
            waiting.append(batch)
            most = max(most, store.held_bytes // 100)
            if len(waiting) > 1:
                for lane, slot in waiting.pop(0):
                    store.used(lane, slot)
    return load, most


def test_each_chunk_is_read_about_once_in_an_epoch() -> None:
    order = Order(
        {"main": np.full(200, 20, np.uint32)},
        {"main": 1},
        seed=0,
        lanes=4,
        clips_per_lane=5,
        window=100,
    )
    load, most = walk(order, range(4), steps=4000 // 20, memory_chunks=4 * 13)
    assert len(load.loads) <= 200 * 1.05, (
        "read amplification: chunks are fetched more than once"
    )
    assert most <= 4 * 13


def test_a_small_corpus_is_read_once_for_all_epochs() -> None:
    order = Order(
        {"main": np.full(4, 10, np.uint32)},
        {"main": 1},
        seed=0,
        lanes=4,
        clips_per_lane=2,
        window=100,
    )
    load, _ = walk(order, range(4), steps=100, memory_chunks=10)
    assert sorted(load.loads) == [("main", number) for number in range(4)]


def test_a_mixture_keeps_each_corpus_chunks_apart() -> None:
    clips = {"a": np.full(30, 10, np.uint32), "b": np.full(30, 10, np.uint32)}
    order = Order(clips, {"a": 2, "b": 1}, seed=0, lanes=2, clips_per_lane=3, window=40)
    load, _ = walk(order, range(2), steps=50, memory_chunks=60)
    assert {corpus for corpus, _ in load.loads} == {"a", "b"}
    assert len(load.loads) == len(set(load.loads))


@pytest.mark.timeout(30)
def test_a_request_waits_for_room_until_chunks_are_used() -> None:
    load = Counting()
    slots = [Slot("main", 0, chunk, 0, until=chunk + 1, count=chunk) for chunk in range(4)]
    with ThreadPoolExecutor(1) as pool:
        store = ChunkStore(load, pool, 200)
        for slot in slots[:2]:
            store.request(0, slot, 100, lambda: True)
        arrived = threading.Event()

        def ask() -> None:
            store.request(0, slots[2], 100, lambda: True)
            arrived.set()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert not arrived.wait(0.3), "the third chunk does not fit"
        store.used(0, slots[0])
        store.used(0, slots[1])  # its count says that the first chunk is needed no more
        assert arrived.wait(5)


@pytest.mark.timeout(30)
def test_a_failed_chunk_is_tried_again_when_it_comes_up_again() -> None:
    tries = []

    def load(corpus: str, number: int, asked: float) -> Clips:
        tries.append(number)
        raise OSError("gone")

    slot = Slot("main", 0, 3, 0, until=1, count=0)
    with ThreadPoolExecutor(1) as pool:
        store = ChunkStore(load, pool, 1000)
        with pytest.raises(OSError, match="gone"):
            store.request(0, slot, 100, lambda: True).result(5)
        store.used(0, Slot("main", 0, 4, 0, until=2, count=1))
        later = Slot("main", 1, 3, 0, until=11, count=10)
        with pytest.raises(OSError, match="gone"):
            store.request(0, later, 100, lambda: True).result(5)
    assert tries == [3, 3]
    assert store.held_bytes == 100

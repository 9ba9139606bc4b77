"""The order: what every exactness claim of the system rests on, so it is tested as properties
over ragged corpora.
"""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.stream.order import Order, lanes_of_rank
from ausl_dist.stream.permutation import Permutation

CHUNKS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


# (lane, epoch, chunk, clip) of steps 0, 3 and a billion
PINNED = [
    (0, 0, 4, 3),
    (0, 0, 4, 1),
    (1, 0, 3, 0),
    (1, 0, 2, 1),
    (0, 0, 5, 0),
    (0, 0, 5, 2),
    (1, 0, 3, 6),
    (1, 0, 3, 5),
    (0, 142857142, 0, 1),
    (0, 142857142, 0, 2),
    (1, 153846153, 0, 2),
    (1, 153846153, 0, 0),
]


def order_over(
    chunks: list[int],
    *,
    seed: int = 0,
    lanes: int = 4,
    clips_per_lane: int = 2,
    window: int = 32,
) -> Order:
    clips = np.array(chunks, np.uint32)
    return Order(
        {"main": clips},
        {"main": 1},
        seed=seed,
        lanes=lanes,
        clips_per_lane=clips_per_lane,
        window=window,
    )


def big_enough(chunks: list[int], lanes: int, clips_per_lane: int) -> list[int]:
    return (
        chunks if sum(chunks) >= lanes * clips_per_lane else [*chunks, lanes * clips_per_lane]
    )


@given(
    chunks=CHUNKS,
    lanes=st.integers(1, 9),
    window=st.integers(1, 200),
    seed=st.integers(0, 1 << 40),
    epoch=st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_every_clip_comes_exactly_once_in_an_epoch(
    chunks: list[int], lanes: int, window: int, seed: int, epoch: int
) -> None:
    order = order_over(
        big_enough(chunks, lanes, 1), seed=seed, lanes=lanes, clips_per_lane=1, window=window
    )
    corpus = order.corpora[0]
    seen = []
    for lane in range(lanes):
        start, end = corpus.segment(lane)
        slots = [
            order.slot(lane, epoch * (end - start) + position)
            for position in range(end - start)
        ]
        assert {slot.epoch for slot in slots} <= {epoch}
        seen += [(slot.chunk, slot.clip) for slot in slots]
    expected = [
        (chunk, clip)
        for chunk, clips in enumerate(big_enough(chunks, lanes, 1))
        for clip in range(clips)
    ]
    assert sorted(seen) == expected


@given(chunks=CHUNKS, data=st.data())
@settings(max_examples=30, deadline=None)
def test_global_batches_do_not_depend_on_the_world_size(
    chunks: list[int], data: st.DataObject
) -> None:
    lanes = data.draw(st.sampled_from([1, 2, 4, 6, 8, 12]))
    order = order_over(
        big_enough(chunks, lanes, 3),
        lanes=lanes,
        clips_per_lane=3,
        window=data.draw(st.integers(1, 64)),
    )
    step = data.draw(st.integers(0, 10_000))
    whole = sorted(
        (lane, slot.chunk, slot.clip, slot.epoch)
        for lane, slot in order.batch(step, range(lanes))
    )
    for world_size in (size for size in range(1, lanes + 1) if lanes % size == 0):
        parts = [
            order.batch(step, lanes_of_rank(lanes, rank, world_size))
            for rank in range(world_size)
        ]
        assert len({len(part) for part in parts}) == 1
        assert (
            sorted(
                (lane, slot.chunk, slot.clip, slot.epoch)
                for part in parts
                for lane, slot in part
            )
            == whole
        )


@given(chunks=CHUNKS, start=st.integers(0, 10**9), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_fresh_order_asked_for_step_n_gives_the_tail_of_one_asked_from_0(
    chunks: list[int], start: int, seed: int
) -> None:
    chunks = big_enough(chunks, 4, 2)
    walked = order_over(chunks, seed=seed)
    for step in range(5):
        walked.batch(step, range(4))
    for step in range(start, start + 3):
        walked_batch = walked.batch(step, range(4))
        assert order_over(chunks, seed=seed).batch(step, range(4)) == walked_batch


@given(
    chunks=CHUNKS, lanes=st.integers(1, 5), window=st.integers(1, 50), clips=st.integers(1, 300)
)
@settings(max_examples=30, deadline=None)
def test_a_chunk_is_kept_until_its_lane_has_used_its_last_clip(
    chunks: list[int], lanes: int, window: int, clips: int
) -> None:
    order = order_over(
        big_enough(chunks, lanes, 1), lanes=lanes, clips_per_lane=1, window=window
    )
    for lane in range(lanes):
        released: dict[tuple[int, int], int] = {}
        for number in range(clips):
            slot = order.slot(lane, number)
            assert slot.count <= number < slot.until
            key = slot.epoch, slot.chunk
            assert released.setdefault(key, slot.until) == slot.until, (
                "clips of one chunk must agree on when it is free"
            )


def test_a_chunk_is_held_for_few_windows() -> None:
    """Otherwise memory would grow with the corpus."""
    order = order_over([20] * 500, lanes=2, window=100)
    for number in range(3000):
        slot = order.slot(1, number)
        assert slot.until - number <= 2 * 100


@given(
    quotas=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    seed=st.integers(0, 99),
    period=st.integers(0, 50),
    lane=st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_quotas_of_a_mixture_are_exact_in_every_period(
    quotas: list[int], seed: int, period: int, lane: int
) -> None:
    names = [f"corpus{number}" for number in range(len(quotas))]
    clips = {name: np.full(10 + number, 7, np.uint32) for number, name in enumerate(names)}
    order = Order(
        clips,
        dict(zip(names, quotas, strict=True)),
        seed=seed,
        lanes=4,
        clips_per_lane=2,
        window=16,
    )
    length = sum(quotas)
    slots = [order.slot(lane, period * length + position) for position in range(length)]
    for name, quota in zip(names, quotas, strict=True):
        assert sum(slot.corpus == name for slot in slots) == quota


def test_each_corpus_of_a_mixture_is_gone_through_completely() -> None:
    clips = {"small": np.full(3, 5, np.uint32), "large": np.full(12, 5, np.uint32)}
    order = Order(clips, {"small": 1, "large": 4}, seed=1, lanes=1, clips_per_lane=5, window=8)
    slots = [order.slot(0, number) for number in range(75)]
    for name in clips:
        first_epoch = [
            (slot.chunk, slot.clip) for slot in slots if slot.corpus == name and slot.epoch == 0
        ]
        assert len(set(first_epoch)) == len(first_epoch) == clips[name].sum()


def test_the_order_of_a_mixture_does_not_depend_on_how_the_config_lists_it() -> None:
    clips = {"a": np.full(5, 5, np.uint32), "b": np.full(5, 5, np.uint32)}
    one = Order(clips, {"a": 2, "b": 1}, seed=0, lanes=2, clips_per_lane=3, window=8)
    other = Order(
        dict(reversed(clips.items())),
        {"b": 1, "a": 2},
        seed=0,
        lanes=2,
        clips_per_lane=3,
        window=8,
    )
    assert one.batch(17, range(2)) == other.batch(17, range(2))


def test_the_seed_and_the_epoch_change_the_order() -> None:
    def places(seed: int, epoch: int) -> list[tuple[int, int]]:
        order = order_over([10] * 40, seed=seed)
        return [
            (slot.chunk, slot.clip)
            for slot in (order.slot(0, epoch * 100 + position) for position in range(100))
        ]

    assert places(0, 0) != places(1, 0)
    assert places(0, 0) != places(0, 1)


def test_the_order_is_pinned() -> None:
    """A change here changes every running job's data: raise ORDER_VERSION with it."""
    order = order_over([3, 5, 2, 7, 4, 6], seed=42, lanes=2, clips_per_lane=2, window=4)
    found = [
        (lane, slot.epoch, slot.chunk, slot.clip)
        for step in (0, 3, 10**9)
        for lane, slot in order.batch(step, range(2))
    ]
    assert found == PINNED


def test_shuffling_is_close_to_a_full_permutation(capsys: pytest.CaptureFixture[str]) -> None:
    """Clips that are neighbours in the corpus should not meet in a batch much more often than
    by chance.
    """
    chunk, chunks, lanes, clips_per_lane, window = 160, 400, 16, 4, 1024
    order = order_over(
        [chunk] * chunks, lanes=lanes, clips_per_lane=clips_per_lane, window=window
    )
    total = chunk * chunks
    random = np.random.default_rng(0)
    steps = random.integers(0, total // (lanes * clips_per_lane), 300)
    ours = [
        [slot.chunk * chunk + slot.clip for _, slot in order.batch(int(step), range(lanes))]
        for step in steps
    ]
    full = [random.choice(total, lanes * clips_per_lane, replace=False) for _ in steps]

    def same_chunk(batches: list) -> float:
        return float(
            np.mean(
                [1 - len(np.unique(np.array(batch) // chunk)) / len(batch) for batch in batches]
            )
        )

    def neighbour_distance(batches: list) -> float:
        return float(np.mean([np.diff(np.sort(batch)).mean() for batch in batches]))

    with capsys.disabled():
        print(
            "\nshuffling: share of a batch's clips from the chunk of another one: "
            f"{same_chunk(ours):.3f} ({same_chunk(full):.3f} in a"
        )
        print(
            f"full permutation); mean distance of neighbours: {neighbour_distance(ours):.0f} clips "
            f"({neighbour_distance(full):.0f})"
        )
    assert same_chunk(ours) < 0.25
    assert 0.9 < neighbour_distance(ours) / neighbour_distance(full) < 1.1


def test_places_in_an_epoch_are_uniform() -> None:
    """Every clip should have the same chance at every place: over many seeds the mean place is
    the middle.
    """
    means = []
    for seed in range(200):
        order = order_over([4] * 25, seed=seed, lanes=1, clips_per_lane=1, window=10)
        places = {
            (slot.chunk, slot.clip): number
            for number in range(100)
            for slot in [order.slot(0, number)]
        }
        means.append([places[0, 0], places[24, 3]])
    assert np.abs(np.mean(means, 0) - 49.5).max() < 4 * 28.9 / np.sqrt(200)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 1000, 4099])
def test_a_permutation_is_one_and_its_two_forms_agree(size: int) -> None:
    permutation = Permutation(size, "test", 7)
    values = [permutation(position) for position in range(size)]
    assert sorted(values) == list(range(size))
    assert permutation.many(np.arange(size, dtype=np.uint64)).tolist() == values


@given(size=st.integers(1, 1 << 50), data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_permutation_of_any_size_stays_in_range_and_does_not_collide(
    size: int, data: st.DataObject
) -> None:
    permutation = Permutation(size, data.draw(st.integers(0, 1 << 30)))
    positions = np.array(
        data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=50, unique=True)),
        np.uint64,
    )
    values = permutation.many(positions)
    assert len(np.unique(values)) == len(positions)
    assert values.max() < size
    assert [permutation(int(position)) for position in positions] == values.tolist()


@pytest.mark.parametrize("size", [3, 5, 8, 17])
def test_a_small_permutation_is_unbiased(size: int) -> None:
    counts = np.zeros((size, size))
    for key in range(1500):
        counts[
            np.arange(size),
            Permutation(size, key, "bias").many(np.arange(size, dtype=np.uint64)).astype(int),
        ] += 1
    expected = 1500 / size
    chi_squared_per_degree = ((counts - expected) ** 2 / expected).sum() / (size - 1) ** 2
    assert chi_squared_per_degree < 1 + 5 * np.sqrt(2) / (size - 1)


def test_a_number_of_ranks_that_does_not_divide_the_lanes_is_refused_with_those_that_do() -> (
    None
):
    with pytest.raises(ValueError, match="run 1, 2, 4, 8 ranks"):
        lanes_of_rank(8, 0, 3)


def test_a_corpus_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="10 clips, fewer than one batch"):
        order_over([5, 5], lanes=4, clips_per_lane=3)
    with pytest.raises(ValueError, match=r"fewer than data.*lower batch\.clips or the number"):
        order_over([3], lanes=4, clips_per_lane=1)


def test_a_billion_clips_cost_no_more_than_their_table() -> None:
    """Measured in a process of its own: opening takes seconds, memory stays under 300 MB, a
    clip costs under 50 µs.
    """
    script = textwrap.dedent(
        """
        import time
        import numpy as np
        from ausl_dist.shards.index import CHUNK_DTYPE
        from ausl_dist.stream.order import Order

        table = np.zeros(6_250_000, CHUNK_DTYPE)
        table["clips"] = 160
        start = time.process_time()
        order = Order({"main": table["clips"]}, {"main": 1}, seed=0, lanes=64, clips_per_lane=4, window=1024)
        order.slot(0, 0)
        opened = time.process_time() - start
        assert order.corpora[0].num_clips == 10**9
        start = time.process_time()
        for number in range(5000):
            order.slot(number % 64, 3119 * number)
        clip = (time.process_time() - start) / 5000
        # ru_maxrss would be inherited
        peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
        print(opened, clip * 1e6, peak)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    opened, clip_us, memory_mb = map(float, done.stdout.split())
    print(
        f"a billion clips: opened in {opened:.1f} s, {clip_us:.0f} µs a clip, {memory_mb:.0f} MB"
    )
    assert opened < 10
    assert memory_mb < 300
    assert clip_us < 100  # 30 on a quiet core; the bound leaves room for a busy one

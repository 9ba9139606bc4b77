"""The loader: what a step holds is a function of its number alone, and nothing that goes wrong
with a clip reaches a batch.
"""

import dataclasses
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.batch import Batch, Needs
from ausl_dist.shards.encode import Codec
from ausl_dist.stream import fetch
from ausl_dist.stream import loader as loader_module
from ausl_dist.stream.corpora import check_memory
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tests.support.corpora import draw_clip, make_corpus
from tests.support.loading import LANES, NEAR, PLAN, WIDE, take

pytestmark = pytest.mark.timeout(120)


def same(one: Batch, other: Batch) -> bool:
    tensors = [
        (one.weight, other.weight),
        (one.identity, other.identity),
        (one.video, other.video),
    ]
    for name in ("frames", "landmarks", "action_units"):
        tensors += [
            (getattr(one, name)[view], getattr(other, name)[view]) for view in PLAN.views
        ]
    return (one.step, one.keys) == (other.step, other.keys) and all(
        torch.equal(a, b) for a, b in tensors
    )


def test_a_batch_has_what_the_plan_asks_for(open_loader: Callable[..., Loader]) -> None:
    (batch,) = take(open_loader(), 1)
    assert len(batch) == 8
    assert batch.weight.tolist() == [1.0] * 8
    assert batch.frames[NEAR].shape == (8, 4, 3, 32, 32)
    assert batch.frames[WIDE].shape == (8, 2, 3, 32, 32)
    assert batch.landmarks[NEAR].shape == (8, 4, 68, 2)
    assert batch.action_units[WIDE].shape == (8, 2, 3)
    assert batch.action_units[WIDE].dtype == torch.int8
    assert batch.identity is not None
    assert batch.video is not None
    by_identity = dict(zip(batch.keys, batch.identity.tolist(), strict=True))
    for one in batch.keys:
        for other in batch.keys:
            assert (int(one[-6:]) // 4 == int(other[-6:]) // 4) == (
                by_identity[one] == by_identity[other]
            )


def test_labels_and_landmarks_are_those_of_the_frames_of_the_window(
    open_loader: Callable[..., Loader],
) -> None:
    (batch,) = take(open_loader(window_start=2, action_units=(26, 1, 99)), 1)
    for place, key in enumerate(batch.keys):
        drawn = draw_clip(int(key[-6:]), frames=12, size=64)
        # offsets 0 and 6 of a window that starts at frame 2
        labels = batch.action_units[WIDE][place].numpy()
        assert (labels[:, 0] == drawn.action_units[[2, 8], 2]).all()
        assert (labels[:, 1] == drawn.action_units[[2, 8], 0]).all()
        assert (labels[:, 2] == -1).all()
        spread = batch.landmarks[WIDE][place].std(dim=1) / torch.from_numpy(
            drawn.landmarks[[2, 8]].astype(np.float32)
        ).std(dim=1)
        assert torch.allclose(spread, spread[0, 0].expand_as(spread), rtol=0.02)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_global_batch_is_the_same_for_every_world_size(
    open_loader: Callable[..., Loader], world_size: int
) -> None:
    whole = take(open_loader(), 6)
    parts = [take(open_loader(rank, world_size), 6) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        for rank in range(world_size):
            part = parts[rank][step]
            mine = [
                2 * lane + clip for lane in range(rank, LANES, world_size) for clip in range(2)
            ]
            assert part.keys == tuple(batch.keys[place] for place in mine)
            for view in PLAN.views:
                assert torch.equal(part.frames[view], batch.frames[view][mine])
                assert torch.equal(part.landmarks[view], batch.landmarks[view][mine])


def test_a_resume_gives_the_tail(open_loader: Callable[..., Loader]) -> None:
    whole = take(open_loader(), 9)
    assert all(
        same(one, other)
        for one, other in zip(whole[6:], take(open_loader(start_step=6), 3), strict=True)
    )


def test_batches_do_not_depend_on_threads_or_prefetching(
    open_loader: Callable[..., Loader],
) -> None:
    reference = take(open_loader(decode_threads=1, fetch_threads=1, prefetch_batches=1), 6)
    other = take(
        open_loader(decode_threads=4, fetch_threads=3, prefetch_batches=5, memory_mib=16), 6
    )
    assert all(same(one, two) for one, two in zip(reference, other, strict=True))


def test_a_batch_is_freed_by_the_loader_and_not_by_the_thread_that_trains(
    open_loader: Callable[..., Loader],
) -> None:
    freed: list[str] = []
    with open_loader() as loader:
        batch = next(loader)
        weakref.finalize(batch, lambda: freed.append(threading.current_thread().name))
        del batch
        deadline = time.monotonic() + 30
        while not freed and time.monotonic() < deadline:
            next(loader)
    assert freed == ["assembler"]


def test_every_clip_comes_once_in_an_epoch(open_loader: Callable[..., Loader]) -> None:
    batches = take(open_loader(lanes=2, clips_per_lane=1), 11)
    assert sorted(key for batch in batches for key in batch.keys) == [
        draw_clip(number, frames=1).key for number in range(22)
    ]


def test_dali_may_decode_instead(open_loader: Callable[..., Loader]) -> None:
    ours, dalis = take(open_loader(), 2), take(open_loader(decoder="dali"), 2)
    for one, other in zip(ours, dalis, strict=True):
        assert one.keys == other.keys
        assert (one.frames[WIDE] - other.frames[WIDE]).abs().mean() < 0.06
        assert torch.equal(one.landmarks[NEAR], other.landmarks[NEAR])


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_other_codecs_are_decoded_to_the_same_pictures(
    open_loader: Callable[..., Loader], tmp_path: Path, codec: Codec
) -> None:
    corpus = make_corpus(
        tmp_path / codec, clips=22, frames=12, size=64, codec=codec, action_units=True
    )
    pictures: list[dict[str, torch.Tensor]] = []
    for loader in (open_loader(), open_loader(corpora={"main": CorpusSource(str(corpus))})):
        # less than an epoch; chunks of another size come in another order
        batches = take(loader, 2)
        pictures.append(
            {
                key: frames
                for batch in batches
                for key, frames in zip(batch.keys, batch.frames[WIDE], strict=True)
            }
        )
        assert all(batch.weight.all() for batch in batches)
    usual, other = pictures
    assert usual.keys() & other.keys()
    for key in usual.keys() & other.keys():
        assert (usual[key] - other[key]).abs().mean() < 0.06


def test_a_mixture_of_corpora_keeps_its_quotas(
    open_loader: Callable[..., Loader], loader_corpus: Path, tmp_path: Path
) -> None:
    other = make_corpus(tmp_path / "other", clips=10, frames=12, seed=1)
    corpora = {
        "main": CorpusSource(str(loader_corpus), 3),
        "other": CorpusSource(str(other), 1),
    }
    batches = take(open_loader(corpora=corpora, clips_per_lane=4), 3)
    for batch in batches:
        assert sum(key.startswith("drawn-1") for key in batch.keys) == 4


def test_clips_shorter_than_the_window_are_refused_at_the_start(
    open_loader: Callable[..., Loader],
) -> None:
    with pytest.raises(ValueError, match="clips of 12 frames, the objectives need 13 in a row"):
        open_loader(plan=Needs.union([Needs({WIDE: (0, 12)})]))
    with pytest.raises(ValueError, match="need 14"):
        open_loader(window_start=7)


def test_labels_that_nobody_named_are_refused_at_the_start(
    open_loader: Callable[..., Loader],
) -> None:
    with pytest.raises(ValueError, match=r"data\.action_units"):
        open_loader(action_units=())


def test_a_window_that_does_not_fit_into_memory_is_refused_with_the_numbers(
    tmp_path: Path, open_loader: Callable[..., Loader]
) -> None:
    with open_loader() as loader:
        index = loader.indexes["main"]
    table = np.repeat(index.chunks, 1000)
    large = dataclasses.replace(index, chunks=table, num_clips=index.num_clips * 1000)
    settings = DataSettings(
        {"main": CorpusSource("x")}, lanes=64, memory_mib=64, shuffle_window=1024
    )
    with pytest.raises(
        ValueError, match=r"64 lanes in windows of 1024 clips.*data\.memory_mib=64"
    ):
        check_memory(settings, {"main": large}, range(64))
    check_memory(settings, {"main": large}, range(1))


def test_a_number_of_ranks_that_does_not_fit_is_refused_at_the_start(
    open_loader: Callable[..., Loader],
) -> None:
    with pytest.raises(ValueError, match="run 1, 2, 4 ranks"):
        open_loader(world_size=3)


def test_an_error_in_a_thread_reaches_the_run_after_the_batches_before_it(
    open_loader: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = loader_module.assemble

    def fails(step: int, *rest: object) -> Batch:
        if step == 3:
            raise RuntimeError("out of luck")
        return honest(step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loader_module, "assemble", fails)
    with open_loader() as loader:
        assert [next(loader).step for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RuntimeError, match="out of luck"):
            next(loader)


def test_closing_leaves_no_thread_behind(open_loader: Callable[..., Loader]) -> None:
    before = set(threading.enumerate())
    loader = open_loader()
    next(loader)
    loader.close()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not {
        thread.name
        for thread in set(threading.enumerate()) - before
        if not thread.name.startswith(("fsspec", "asyncio"))
    }


def test_stalls_have_a_name(
    open_loader: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fetch.Fetcher.read
    monkeypatch.setattr(
        fetch.Fetcher,
        "read",
        lambda self, *arguments: (time.sleep(0.3), honest(self, *arguments))[1],
    )
    with open_loader() as loader:
        next(loader)
        blocked = dict(loader.blocked_seconds)
    assert set(blocked) == {"fetch", "decode", "augment"}
    assert blocked["fetch"] > 0.25
    assert blocked["augment"] > 0.25
    assert loader.counts["clips"] >= 8
    assert loader.counts["bytes"] > 0
    assert set(loader.queues) == {"planned", "decoding", "ready"}

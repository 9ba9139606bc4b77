"""The data plane of one rank: `next(loader)` is this rank's part of global batch start_step,
start_step + 1, ...

    order ──▶ planner ──▶ ChunkStore (fetch, verify, unpack) ──▶ decoding threads ──▶ DALI graph ──▶ Batch
              1 thread    fetch_threads                          decode_threads       1 thread + its own

1. the planner walks the order ahead of the run and asks the store for the chunks of each step,
   as far as memory allows;
2. decoding threads prepare the clips of the next few steps, each as soon as its chunk is there;
3. the assembler feeds the clips of one step to the graph, in slot order, and puts the batch
   into a queue of `prefetch_batches`.

All state is the number of the step: what a step holds does not depend on threads, timing, world
size, or where the loader was started. An error in any thread is raised by `next`.
"""

import contextlib
import itertools
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import cv2
import torch

from ausl_dist.batch import Batch, Needs
from ausl_dist.run_folder import LEDGER_FILE
from ausl_dist.shards.removals import Moved
from ausl_dist.shards.retry import Retry
from ausl_dist.stream import removed
from ausl_dist.stream.cache import DiskCache
from ausl_dist.stream.carrier import Carrier, Sent
from ausl_dist.stream.chosen import without_trying
from ausl_dist.stream.chunks import ChunkStore
from ausl_dist.stream.corpora import check_memory, open_corpora, order_of
from ausl_dist.stream.decode import Graph, GraphPlan
from ausl_dist.stream.fetch import Fetcher
from ausl_dist.stream.frames import FrameDecoder
from ausl_dist.stream.ledger import Clips, Ledger, Missing, MissingClip
from ausl_dist.stream.order import Slot, lanes_of_rank
from ausl_dist.stream.prepare import Preparation, Prepared, assemble
from ausl_dist.stream.removed import TakenDown
from ausl_dist.stream.settings import DataSettings
from ausl_dist.stream.stages import Stages

T = TypeVar("T")
Result = Prepared | MissingClip
Work = tuple[
    int, list[tuple[int, Slot, Future[T]]]
]  # a step, and lane, slot, result of each clip

PLANNED_STEPS = 64  # how far the planner looks ahead where memory allows
DECODED_STEPS = 2  # steps whose clips are being decoded while one is in the graph
KEPT_BATCHES = 2  # handed out and not let go of yet: the one in use, and the one before it
MIB = 1 << 20


class Loader:
    """Iterates over the batches of one rank, for ever; close it, or use it with `with`."""

    def __init__(
        self,
        settings: DataSettings,
        plan: Needs,
        *,
        seed: int,
        rank: int,
        world_size: int,
        run_folder: Path,
        start_step: int = 0,
        device: torch.device | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        """`digests` are those of the indexes that the run began with, where a take-down may
        have replaced them since.
        """
        settings = without_trying(settings, gpu=device is not None and device.type == "cuda")
        self.settings, self.plan, self.rank = settings, plan, rank
        self.image_size = settings.image_size
        # Seconds that each stage kept the next one waiting: `fetch` is summed over the decoding
        # threads, `augment` is the run's stall.
        self.blocked_seconds = {"fetch": 0.0, "decode": 0.0, "augment": 0.0}
        # that finished batches waited for a place in the queue: the loader is ahead of the run
        self.ahead_seconds = 0.0
        self._preparation = _preparation(settings, plan, seed)
        self.indexes = open_corpora(settings, plan, digests)
        self._lanes = lanes_of_rank(settings.lanes, rank, world_size)
        self._order = order_of(settings, self.indexes, seed)
        check_memory(settings, self.indexes, self._lanes)
        self._ledger = Ledger(Path(run_folder) / LEDGER_FILE, settings.budgets)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stages = Stages()
        retry, cache = Retry(settings.retry_seconds, sleep=self._stages.sleep), _cache(settings)
        self._taken_down = TakenDown(self.indexes, retry)
        self._fetcher = Fetcher(self.indexes, retry, cache, settings.reader, self._taken_down)
        self._fetch_pool = ThreadPoolExecutor(settings.fetch_threads, "fetch")
        self._decode_pool = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._store = ChunkStore(
            self._fetcher.clips, self._fetch_pool, settings.memory_mib * MIB
        )
        self._taken_down.listen(lambda *chunk: _forget(self._store, cache, *chunk))
        self._taken_down.look()
        self._decoders = threading.local()
        self._carrier = _carrier(settings, device)
        self._graph = _graph(settings, plan, len(self._lanes), self._carrier)
        self._next_step = self._assembling = start_step
        self._planned: queue.Queue[Work[Clips]] = queue.Queue(PLANNED_STEPS)
        self._decoding: queue.Queue[Work[Result]] = queue.Queue(DECODED_STEPS)
        self._batches: queue.Queue[Batch | Sent] = queue.Queue(settings.prefetch_batches)
        # Batches handed out, until the assembler lets go of them: to free memory of DALI's can
        # take 5 ms, of waiting and not of work, which the training thread is spared so. On a
        # GPU batches are memory of torch's own, and not kept.
        self._handed_out: deque[Batch] = deque()
        self._start()

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        start = time.monotonic()
        item = self._stages.get(self._batches)
        self.blocked_seconds["augment"] += time.monotonic() - start
        if isinstance(item, Sent):
            assert self._carrier is not None
            batch = self._carrier.receive(item)
        else:
            batch = item
            self._handed_out.append(batch)
        assert batch.step == self._next_step
        self._next_step += 1
        return batch

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all threads; batches that were ahead are dropped."""
        self._stages.close()
        self._decode_pool.shutdown(cancel_futures=True)
        # A read in flight ends by its own timeout; nobody waits for it.
        self._fetch_pool.shutdown(wait=False, cancel_futures=True)

    @property
    def counts(self) -> dict[str, int]:
        """Since the start of this loader: clips, frames, bytes, chunks, retries,
        retries_REASON, cache_hits, cache_failures, missing_REASON, refused (by DALI's decoder,
        and decoded by FFmpeg).
        """
        missing = {
            f"missing_{reason}": number for reason, number in self._ledger.missing.items()
        }
        refused = {"refused": self._graph.refused} if self._graph.refused else {}
        return {**self._counts, **self._fetcher.counts, **missing, **refused}

    @property
    def taken_down(self) -> dict[str, int]:
        """Clips of each corpus that were removed since the run's index was written."""
        return self._taken_down.clips

    @property
    def queues(self) -> dict[str, int]:
        """Steps that are planned, being decoded, and ready, at this moment."""
        return {
            "planned": self._planned.qsize(),
            "decoding": self._decoding.qsize(),
            "ready": self._batches.qsize(),
        }

    def _start(self) -> None:
        cv2.setNumThreads(1)  # the parallelism is over clips
        self._stages.start("planner", self._plan_ahead)
        self._stages.start("decoder", self._decode_ahead)
        self._stages.start("assembler", self._assemble)
        self._stages.start("removals", self._watch_removals)

    def _plan_ahead(self) -> None:
        for step in itertools.count(self._next_step):
            requests = []
            for lane, slot in self._order.batch(step, self._lanes):
                size = int(self.indexes[slot.corpus].chunks["bytes"][slot.chunk])
                requests.append(
                    (lane, slot, self._store.request(lane, slot, size, self._may_wait(step)))
                )
            self._stages.put(self._planned, (step, requests))

    def _may_wait(self, step: int) -> Callable[[], bool]:
        """Whether a chunk may wait for room: not when the step that needs it is next, or
        nothing would ever be freed.
        """

        def may_wait() -> bool:
            self._stages.check()
            return step > self._assembling + 1

        return may_wait

    def _decode_ahead(self) -> None:
        while True:
            step, requests = self._stages.get(self._planned)
            jobs = [
                (lane, slot, self._decode_pool.submit(self._prepared, slot, clips))
                for lane, slot, clips in requests
            ]
            self._stages.put(self._decoding, (step, jobs))

    def _assemble(self) -> None:
        with contextlib.nullcontext() if self._carrier is None else self._carrier.entered():
            self._assemble_batches()

    def _assemble_batches(self) -> None:
        while True:
            step, jobs = self._stages.get(self._decoding)
            start = time.monotonic()
            results = [self._stages.result(job) for _, _, job in jobs]
            self.blocked_seconds["decode"] += time.monotonic() - start
            slots = [slot for _, slot, _ in jobs]
            for lane, slot, _ in jobs:
                self._store.used(lane, slot)
            self._assembling = step + 1
            batch = self._batch(step, slots, results)
            item = batch if self._carrier is None else self._carrier.send(batch)
            self.ahead_seconds += self._stages.put(self._batches, item)
            del batch, item
            while len(self._handed_out) > KEPT_BATCHES:
                self._handed_out.popleft()

    def _batch(self, step: int, slots: list[Slot], results: list[Result]) -> Batch:
        clips = [None if isinstance(result, MissingClip) else result for result in results]
        frames, damaged = self._graph.run(
            [None if clip is None else clip.pixels for clip in clips]
        )
        for place, detail in damaged.items():
            clip = clips[place]
            assert clip is not None
            results[place], clips[place] = (
                MissingClip("decode", f"clip {clip.key}: {detail}"),
                None,
            )
        places = [f"{self.indexes[slot.corpus].chunk(slot.chunk)}" for slot in slots]
        missing = [
            Missing(
                step,
                self.rank,
                slot.corpus,
                place,
                slot.clip,
                slot.epoch,
                result.reason,
                str(result),
            )
            for slot, place, result in zip(slots, places, results, strict=True)
            if isinstance(result, MissingClip)
        ]
        self._ledger.add(len(slots), missing)
        present = len(slots) - len(missing)
        self._counts.update(
            clips=present,
            frames=present * sum(len(offsets) for offsets in self.plan.views.values()),
        )
        keys = [
            f"missing: {slot.corpus}/{place} clip {slot.clip}" if clip is None else clip.key
            for slot, place, clip in zip(slots, places, clips, strict=True)
        ]
        return assemble(step, self.plan, keys, clips, frames, len(self.settings.action_units))

    def _watch_removals(self) -> None:
        while True:
            self._stages.sleep(removed.LOOK_SECONDS)
            self._taken_down.look()

    def _prepared(self, slot: Slot, chunk: "Future[Clips]") -> Result:
        if not hasattr(self._decoders, "decoder"):
            self._decoders.decoder = FrameDecoder()
        start = time.monotonic()
        try:
            clip = self._stages.result(chunk)[slot.clip]
            waited = time.monotonic() - start
            with self._lock:
                self.blocked_seconds["fetch"] += waited
            if isinstance(clip, MissingClip):
                return clip
            return self._preparation(clip, slot.corpus, slot.epoch, self._decoders.decoder)
        except MissingClip as error:
            return error.with_traceback(None)  # a traceback would keep the chunk in memory


def _preparation(settings: DataSettings, plan: Needs, seed: int) -> Preparation:
    if plan.flow_measured and settings.decoder == "dali":
        raise ValueError(
            "motion is measured between frames that FFmpeg decoded: type data.decoder=pyav, "
            "or objectives.NAME.source=stored for a corpus that holds it"
        )
    return Preparation(
        plan,
        settings.image_size,
        seed,
        settings.window_start,
        settings.action_units,
        decode_here=settings.decoder == "pyav",
        window_once=settings.window_drawn == "once",
        label_share=settings.label_share,
        label_seed=settings.label_seed,
    )


def _cache(settings: DataSettings) -> DiskCache | None:
    return (
        DiskCache(Path(settings.cache_folder), int(settings.cache_gib * (1 << 30)))
        if settings.cache_folder
        else None
    )


def _carrier(settings: DataSettings, device: torch.device | None) -> Carrier | None:
    if device is None and settings.device == "gpu":
        device = torch.device("cuda", torch.cuda.current_device())
    return Carrier(device) if device is not None and device.type == "cuda" else None


def _forget(
    store: ChunkStore, cache: DiskCache | None, corpus: str, row: int | None, moved: Moved
) -> None:
    if cache is not None:
        for num_bytes, xxh3 in moved.was:
            cache.forget(num_bytes, xxh3)
    if row is not None:
        store.change((corpus, row), lambda clips: removed.let_go(clips, moved))


def _graph(settings: DataSettings, plan: Needs, lanes: int, carrier: Carrier | None) -> Graph:
    return Graph(
        GraphPlan(
            views=tuple(plan.views.items()),
            image_size=settings.image_size,
            clips=lanes * settings.clips_per_lane,
            threads=settings.decode_threads,
            device=settings.device,
            decoder=settings.decoder,
        ),
        carrier if settings.device == "gpu" else None,
    )

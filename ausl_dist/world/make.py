"""A rendered world becomes a corpus like any other: shards, index and statement at a URL.

    WorldSettings ──▶ shard numbers ──▶ N processes, a shard at a time: render, encode, verify, write
                  ──▶ publish

Shard n holds clips n * clips_per_shard and following, identity by identity, so its bytes depend
on the settings alone: not on the number of processes, and not on kills. A shard that is there
is not rendered again, and a corpus that is published is left alone.
"""

import dataclasses
import functools
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ausl_dist.faces.landmarks import template_id
from ausl_dist.files import json_object, read_json, sha256_of, write_json
from ausl_dist.shards import storage
from ausl_dist.shards.clip import RENDERED, ClipMeta
from ausl_dist.shards.encode import CODECS, Codec, encode_video, verify_video
from ausl_dist.shards.flow import in_cells
from ausl_dist.shards.index import INDEX_NAME
from ausl_dist.shards.publish import STATEMENT_NAME, publish
from ausl_dist.shards.writer import ShardWriter, shard_name
from ausl_dist.world.file_head import FileHead
from ausl_dist.world.head import BuiltinHead, HeadModel
from ausl_dist.world.render import World

WORLD_VERSION = 1  # raise it when the same settings give other bytes
MAX_STATEMENT_BYTES = 16 << 20
POLL_SECONDS = 0.5
FLOW_CELLS = 32


@dataclass(frozen=True)
class WorldSettings:
    """Which world: equal settings give equal bytes."""

    identities: int
    clips: int  # of each identity
    seconds: float = 2.0  # of each clip
    fps: float = 25.0
    size: int = 128  # side of a frame, pixels
    seed: int = 0
    head: Path | None = None  # a head file; None: the built-in head
    codec: Codec = "vp9"
    clips_per_shard: int = 32
    # chance of a unit with sides to show on one of them alone in a clip; 0 knows no sides
    one_sided: float = 0.0
    flow_gap: int = 0  # frames to the one that the stored true motion leads to; 0 stores none

    def __post_init__(self) -> None:
        for name, most in (
            ("identities", 100_000),
            ("clips", 1000),
            ("clips_per_shard", 100_000),
        ):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(
                    f"world: {name} must lie in 1..{most}, not {getattr(self, name)}"
                )
        if not 0 <= self.flow_gap < self.seconds * self.fps:
            raise ValueError(
                f"world: flow_gap must be shorter than a clip of {self.seconds * self.fps:.0f} "
                f"frames, not {self.flow_gap}"
            )
        if self.codec not in CODECS:
            raise ValueError(
                f"world: codec must be one of {', '.join(CODECS)}, not {self.codec!r}"
            )

    @property
    def num_clips(self) -> int:
        return self.identities * self.clips

    @property
    def num_shards(self) -> int:
        return -(-self.num_clips // self.clips_per_shard)

    def to_dict(self) -> dict[str, Any]:
        """What goes into the corpus' statement: all that its bytes depend on, and nothing of
        this machine.
        """
        head = f"{self.head.name} {sha256_of(self.head)}" if self.head else "builtin"
        values = dataclasses.asdict(self)
        if not self.one_sided:  # a world without sides is what it was before there were any
            del values["one_sided"]
        return {**values, "head": head, "world_version": WORLD_VERSION}

    def open_world(self) -> World:
        """The renderer of these settings; ValueError for settings or a head file that cannot be
        rendered.
        """
        return World(
            _head(self.head),
            size=self.size,
            fps=self.fps,
            seconds=self.seconds,
            seed=self.seed,
            one_sided=self.one_sided,
        )


@dataclass(frozen=True)
class Made:
    """A corpus that is complete at its URL."""

    statement: dict[str, Any]
    was_done: bool  # it was there before


def make_world(
    settings: WorldSettings,
    url: str,
    *,
    work: Path,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda clips: None,
) -> Made:
    """Render the world and publish it at `url`, or go on with it, or do nothing when it is
    there.

    Shards for an object store wait in `work`; those for a folder are written where they belong.
    `on_progress` gets the clips done.
    """
    # what is wrong with the settings is said here, not by every worker
    world = settings.open_world()
    wanted = settings.to_dict()
    if storage.exists(storage.join(url, INDEX_NAME)):
        address = storage.join(url, STATEMENT_NAME)
        statement = json_object(storage.read_bytes(address, MAX_STATEMENT_BYTES), address)
        if statement.get("settings") != wanted:
            raise ValueError(f"{url} holds another corpus; remove it, or choose another --out")
        return Made(statement, was_done=True)
    in_place = storage.local_path(url)
    folder = in_place or work
    _claim(folder, wanted, shared=in_place is not None)
    missing = [
        number
        for number in range(settings.num_shards)
        if not (folder / shard_name(number)).exists()
    ]
    done = settings.num_clips - sum(len(_clips_of(settings, number)) for number in missing)
    _render(settings, folder, missing, workers, lambda clips: on_progress(done + clips))
    books = {"clips": settings.num_clips, "frames": settings.num_clips * world.num_frames}
    statement = publish(
        folder,
        url,
        name=f"world-{world.head.name}-{settings.seed}",
        books=books,
        settings=wanted,
    )
    if in_place is None:
        shutil.rmtree(work)
    return Made(statement, was_done=False)


def work_folder(url: str, cache: Path) -> Path:
    """Where shards for an object store wait until all are there."""
    return cache / "worlds" / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


def _claim(folder: Path, wanted: dict[str, Any], *, shared: bool) -> None:
    """Note in the folder which world its shards are of; ValueError when they are of another.

    A folder that is not `shared` is removed at the end, and so must hold nothing else.
    """
    note = folder / ".world.json"
    if note.exists() and read_json(note) != wanted:
        raise ValueError(
            f"{folder} holds shards of a world with other settings; remove it, "
            "or choose another --out"
        )
    if not note.exists() and any(folder.glob("*.tar")):
        raise ValueError(
            f"{folder} holds shards that are not of a rendered world; choose another --out"
        )
    if not note.exists() and not shared and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something else; choose an empty --work")
    write_json(note, wanted)


def _render(
    settings: WorldSettings,
    folder: Path,
    numbers: list[int],
    workers: int,
    on_progress: Callable[[int], None],
) -> None:
    # a forked process would inherit the object store's connections and locks
    context = multiprocessing.get_context("spawn")
    # for the processes: there is one for each core already
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    counter = context.Value("Q", 0)
    with ProcessPoolExecutor(
        max(1, min(workers, len(numbers))),
        context,
        initializer=_start_worker,
        initargs=(counter,),
    ) as pool:
        waiting = {pool.submit(_write_shard, settings, folder, number) for number in numbers}
        try:
            while waiting:
                finished, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                for future in finished:
                    future.result()
                on_progress(counter.value)
        except BrokenProcessPool as error:
            raise OSError(
                "a rendering process was killed (out of memory?); run the same command again to go "
                "on"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_counter: Any = None  # of clips done by all workers of this run; set once in each worker


def _start_worker(counter: Any) -> None:
    global _counter
    _counter = counter
    cv2.setNumThreads(1)


def _write_shard(settings: WorldSettings, folder: Path, number: int) -> None:
    world = settings.open_world()
    writer = ShardWriter(folder, max_bytes=1 << 62, first=number)
    for clip_number in _clips_of(settings, number):
        _write_clip(writer, world, settings, *divmod(clip_number, settings.clips))
        if _counter is not None:
            with _counter.get_lock():
                _counter.value += 1
    writer.close()


def _write_clip(
    writer: ShardWriter, world: World, settings: WorldSettings, identity: int, number: int
) -> None:
    clip = world.clip(identity, number)
    frames = clip.frames()
    video = encode_video(frames, world.fps, settings.codec)
    verify_video(video, frames)
    meta = ClipMeta(
        source=f"world/{world.head.name}/{world.seed}/{identity:06d}/{number:03d}",
        identity=f"{world.head.name}-{world.seed}-{identity:06d}",
        licence=world.head.licence,
        fps=world.fps,
        start_second=0.0,
        frames=len(frames),
        detector=RENDERED,
        alignment=template_id(),
        action_units=world.head.action_units,
    )
    labels = np.rint(clip.intensities).astype(np.int8)
    gap = settings.flow_gap
    flow = (
        in_cells([clip.flow(t, gap).motion for t in range(len(frames) - gap)], FLOW_CELLS)
        if gap
        else None
    )
    writer.add(
        f"world-{world.seed}-{identity:06d}-{number:03d}",
        meta,
        video,
        clip.landmarks.astype(np.float16),
        labels,
        flow,
    )


def _clips_of(settings: WorldSettings, shard: int) -> range:
    """Numbers of the clips in a shard, counted through all identities."""
    first = shard * settings.clips_per_shard
    return range(first, min(first + settings.clips_per_shard, settings.num_clips))


@functools.cache
def _head(path: Path | None) -> HeadModel:
    return FileHead(path) if path else BuiltinHead()

"""Clips to WebDataset tars: equal clips in equal order give equal bytes.

    writer = ShardWriter(folder)
    writer.add("alice-0001", meta, video, landmarks)  # KEY.mp4, KEY.json, KEY.landmarks.npy, ...
    paths = writer.close()                            # shard-000000.tar, shard-000001.tar, ...

A shard under construction is called `.partial`; only a whole, flushed one gets its name.
Members carry no owner and no time, so that a rebuilt corpus can be compared by checksum. The
members of a clip stand side by side in one shard, whatever the size limit.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ausl_dist.convention import NUM_LANDMARKS
from ausl_dist.files import naming
from ausl_dist.shards import clip
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.tar import BLOCK_BYTES, member_block

END_OF_TAR = bytes(2 * BLOCK_BYTES)
DEFAULT_MAX_BYTES = 256 << 20
MAX_KEY_NAME = 40  # of a source's name, at the start of its clips' keys
MAX_KEY = 100 - 1 - len(clip.LANDMARKS_SUFFIX)  # ustar gives a member's name 100 bytes


def shard_name(number: int, prefix: str = "shard") -> str:
    return f"{prefix}-{number:06d}.tar"


def key_of(source: str) -> str:
    """A source's name as the start of clip keys: readable where its name is plain, distinct
    always.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", source.rsplit(".", 1)[0])[-MAX_KEY_NAME:].strip("-")
    return f"{plain}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def clip_blocks(
    key: str,
    meta: ClipMeta,
    video: bytes,
    landmarks: NDArray[np.float16],
    action_units: NDArray[np.int8] | None = None,
    flow: NDArray[np.int8] | None = None,
) -> bytes:
    """The adjacent tar members of one clip as bytes, headers and padding included;
    concatenations of these are tars but for their end.

    `landmarks` is float16 [T, 68, 2], `action_units` int8 [T, K] or None, `flow` int8 [T - gap,
    2, cells, cells] or None. Raises ValueError where they do not fit the metadata.
    """
    if not clip.KEY_PATTERN.fullmatch(key) or len(key) > MAX_KEY:
        raise ValueError(
            f"clip key {key!r}: 1 to {MAX_KEY} letters, digits, '-' and '_' are allowed"
        )
    if landmarks.dtype != np.float16 or landmarks.shape != (meta.frames, NUM_LANDMARKS, 2):
        raise ValueError(
            f"clip {key}: landmarks must be float16 [{meta.frames}, 68, 2], "
            f"not {landmarks.dtype} {landmarks.shape}"
        )
    if (action_units is None) != (not meta.action_units):
        raise ValueError(
            f"clip {key}: metadata names action units {meta.action_units}, "
            f"the array is {type(action_units).__name__}"
        )
    members = [(clip.VIDEO_SUFFIX, video), (clip.META_SUFFIX, meta.to_bytes())]
    members.append(
        (clip.LANDMARKS_SUFFIX, clip.array_to_bytes(np.ascontiguousarray(landmarks)))
    )
    if action_units is not None:
        if action_units.dtype != np.int8 or action_units.shape != (
            meta.frames,
            len(meta.action_units),
        ):
            raise ValueError(
                f"clip {key}: action units must be int8 [{meta.frames}, {len(meta.action_units)}], "
                f"not {action_units.dtype} {action_units.shape}"
            )
        members.append(
            (clip.ACTION_UNITS_SUFFIX, clip.array_to_bytes(np.ascontiguousarray(action_units)))
        )
    if flow is not None:
        if (
            flow.dtype != np.int8
            or flow.ndim != 4
            or flow.shape[1] != 2
            or not 0 < len(flow) < meta.frames
        ):
            raise ValueError(
                f"clip {key}: flow must be int8 [T - gap, 2, cells, cells], T = {meta.frames}, "
                f"not {flow.dtype} {flow.shape}"
            )
        members.append((clip.FLOW_SUFFIX, clip.array_to_bytes(np.ascontiguousarray(flow))))
    return b"".join(member_block(f"{key}.{suffix}", data) for suffix, data in members)


class ShardWriter:
    """Writes clips into numbered tars of at most `max_bytes` each (one clip larger than that
    gets a shard of its own).
    """

    def __init__(
        self,
        folder: Path | str,
        max_bytes: int = DEFAULT_MAX_BYTES,
        *,
        first: int = 0,
        prefix: str = "shard",
    ) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.completed: list[Path] = []
        self.clips_in_shard = 0  # of the shard under construction
        self._prefix = prefix
        self._number = first
        self._file: IO[bytes] | None = None
        self._written = 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        key: str,
        meta: ClipMeta,
        video: bytes,
        landmarks: NDArray[np.float16],
        action_units: NDArray[np.int8] | None = None,
        flow: NDArray[np.int8] | None = None,
    ) -> None:
        """Add one clip; see `clip_blocks` for shapes and errors."""
        self.add_blocks(clip_blocks(key, meta, video, landmarks, action_units, flow))

    def add_blocks(self, blocks: bytes) -> bool:
        """Add one clip given as the bytes of `clip_blocks`; True when that completed the shard
        before it.
        """
        completed = (
            self.clips_in_shard > 0
            and self._written + len(blocks) + len(END_OF_TAR) > self.max_bytes
        )
        if completed:
            self._complete()
        if self._file is None:
            # it stays open from one clip to the next
            self._file = open(self._partial_path(), "wb")  # noqa: SIM115
        with naming(self._partial_path()):
            self._file.write(blocks)
        self._written += len(blocks)
        self.clips_in_shard += 1
        return completed

    def close(self) -> list[Path]:
        """Complete the last shard; returns the paths of all shards completed by this writer."""
        if self._file is not None:
            self._complete()
        return self.completed

    def _partial_path(self) -> Path:
        return self.folder / (shard_name(self._number, self._prefix) + ".partial")

    def _complete(self) -> None:
        assert self._file is not None
        with naming(self._partial_path()):
            self._file.write(END_OF_TAR)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        path = self.folder / shard_name(self._number, self._prefix)
        os.replace(self._partial_path(), path)
        self.completed.append(path)
        self._file, self._written, self.clips_in_shard = None, 0, 0
        self._number += 1

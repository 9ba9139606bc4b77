"""Clips and chunks of a shard, found while its members go by: what the index says of it.

Every rule that a reader relies on is checked here: keys, adjacent members, what a clip must
have, one frame rate. Errors are ValueErrors that name the clip.
"""

import xxhash

from ausl_dist.shards.clip import KEY_PATTERN, META_SUFFIX, REQUIRED_SUFFIXES, ClipMeta
from ausl_dist.shards.tar import BLOCK_BYTES, Member


class ShardScan:
    """Clips and chunks under construction while a shard goes by."""

    def __init__(self, chunk_bytes: int) -> None:
        self.chunk_bytes = chunk_bytes
        self.chunks: list[tuple[int, int, int, int, int]] = []
        self.clips = self.frames = 0
        self.min_frames = 1 << 62
        self.fps: float | None = None
        self.keys: set[str] = set()
        self._key = ""
        self._suffixes: set[str] = set()
        self._start = self._bytes = self._chunk_clips = 0
        self._hash = xxhash.xxh3_64()

    def add(self, member: Member) -> None:
        key, _, suffix = member.name.removeprefix("./").partition(".")
        if not KEY_PATTERN.fullmatch(key):
            raise ValueError(
                f"member {member.name[:200]!r}: a clip's key has letters, digits, '-' and '_', "
                "and no folder"
            )
        if key != self._key:
            self._finish_clip()
            if self._bytes >= self.chunk_bytes:
                self._finish_chunk()
            if key in self.keys:
                raise ValueError(
                    f"clip {key}: its members are not adjacent, or two clips have this key"
                )
            self.keys.add(key)
            self._key, self._suffixes = key, set()
            if self._bytes == 0:
                self._start = member.start
        if suffix in self._suffixes:
            raise ValueError(f"clip {key}: member {member.name} stands twice")
        self._suffixes.add(suffix)
        if suffix == META_SUFFIX:
            self._add_meta(key, member.data)
        self._hash.update(member.raw)
        self._bytes += len(member.raw)

    def finish(self) -> None:
        self._finish_clip()
        if not self.clips:
            raise ValueError("holds no clip")
        self._finish_chunk()

    def _add_meta(self, key: str, data: bytes) -> None:
        try:
            meta = ClipMeta.from_bytes(data)
        except ValueError as error:
            raise ValueError(f"clip {key}: {error}") from error
        self.frames += meta.frames
        self.min_frames = min(self.min_frames, meta.frames)
        if self.fps not in (None, meta.fps):
            raise ValueError(
                f"clip {key} has {meta.fps} frames/s, those before it {self.fps}; "
                "a corpus has one frame rate"
            )
        self.fps = meta.fps

    def _finish_clip(self) -> None:
        if not self._key:
            return
        missing = [suffix for suffix in REQUIRED_SUFFIXES if suffix not in self._suffixes]
        if missing:
            raise ValueError(
                f"clip {self._key} has no {self._key}.{missing[0]} (found: "
                f"{', '.join(sorted(self._suffixes))})"
            )
        self.clips += 1
        self._chunk_clips += 1

    def _finish_chunk(self) -> None:
        self.chunks.append(
            (
                self._hash.intdigest(),
                0,
                self._start // BLOCK_BYTES,
                self._bytes,
                self._chunk_clips,
            )
        )
        self._bytes = self._chunk_clips = 0
        self._hash = xxhash.xxh3_64()

"""Finished sources become shards, in the order of the source list whatever order they were
finished in.

    results/000000.json + .clips, 000001.…  ──▶ duplicate? ──▶ ShardWriter ──▶ shard-000000.tar, …

The results of sources wait on disk until all before them are there. `pack.json` moves on with
each completed shard; after a kill packing starts again at the last shard's end, and since
results are kept until their shard is complete the bytes come out the same.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.books import KEPT
from ausl_dist.corpus.extract import SourceResult
from ausl_dist.corpus.quality import SIGNATURE_BITS
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.files import as_ours, read_json, write_json
from ausl_dist.json_lines import append_json_line, read_json_lines
from ausl_dist.shards.writer import ShardWriter

STATE_NAME = "pack.json"
DECISIONS_NAME = "duplicates.jsonl"


class ResultStore:
    """The results of sources on disk.

    A source is done when its .json is there; its .clips are the tar members of its clips.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def clips_path(self, index: int) -> Path:
        return self.folder / f"{index:08d}.clips"

    def is_done(self, index: int) -> bool:
        return self._path(index).exists()

    def write(self, index: int, result: SourceResult) -> None:
        write_json(self._path(index), result.to_dict())

    def read(self, index: int) -> SourceResult:
        return SourceResult.from_dict(read_json(self._path(index), max_bytes=1 << 30))

    def forget_clips(self, index: int) -> None:
        self.clips_path(index).unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:08d}.json"


class Duplicates:
    """Signatures seen so far; near ones are the same footage.

    Every signature is compared with all before it: 5 ms per million.
    """

    def __init__(self, max_bits: int) -> None:
        self._max_bits = max_bits
        self._seen: NDArray[np.uint64] = np.zeros((1024, SIGNATURE_BITS // 64), np.uint64)
        self._count = 0

    def is_duplicate(self, signature: str) -> bool:
        """Whether earlier footage is this near; if not, this is remembered."""
        bits = np.frombuffer(bytes.fromhex(signature), np.uint64)
        if self._count:
            distance = np.bitwise_count(self._seen[: self._count] ^ bits).sum(1, dtype=np.int64)
            if int(distance.min()) <= self._max_bits:
                return True
        self.add(signature)
        return False

    def add(self, signature: str) -> None:
        if self._count == len(self._seen):
            self._seen = np.concatenate([self._seen, np.zeros_like(self._seen)])
        self._seen[self._count] = np.frombuffer(bytes.fromhex(signature), np.uint64)
        self._count += 1


class Packer:
    """Packs the results of sources 0, 1, 2, … of a build into shards.

    To go on after a kill, make it again with the same folders.
    """

    def __init__(
        self,
        work: Path,
        results: ResultStore,
        shards: Path,
        *,
        sources: int,
        settings: CorpusSettings,
        prefix: str,
    ) -> None:
        self._work, self._results, self._sources = work, results, sources
        self._duplicates = Duplicates(settings.quality.duplicate_bits)
        # keys of the duplicates of each source, as far as decided
        self._decided: list[list[str]] = []
        state = {"shards": 0, "source": 0, "clip": 0}
        if (work / STATE_NAME).exists():
            state = read_json(work / STATE_NAME)
        with as_ours(work / STATE_NAME):
            self._next, self._skip = state["source"], state["clip"]
        self._writer = ShardWriter(
            shards, settings.max_shard_bytes, first=state["shards"], prefix=prefix
        )
        self._shards = state["shards"]
        self._forgotten = 0  # sources whose clips are all in completed shards, and deleted
        self._recall()

    def advance(self) -> None:
        """Pack as far as results are there without a gap."""
        while self._next < self._sources and self._results.is_done(self._next):
            self._pack(self._next)
            self._next, self._skip = self._next + 1, 0

    def finish(self) -> None:
        """Complete the last shard; every source must be packed."""
        assert self._next == self._sources, (
            f"{self._sources - self._next} sources are not packed"
        )
        self._writer.close()
        self._save(self._sources, 0)

    def result(self, index: int) -> SourceResult:
        """A packed source's result, with its duplicates rejected."""
        result = self._results.read(index)
        duplicates = set(self._decided[index])
        result.pieces = [
            replace(piece, outcome="duplicate")
            if piece.key in duplicates and piece.key
            else piece
            for piece in result.pieces
        ]
        return result

    def _pack(self, index: int) -> None:
        clips = [piece for piece in self._results.read(index).pieces if piece.outcome == KEPT]
        if index == len(self._decided):
            duplicates = [
                piece.key for piece in clips if self._duplicates.is_duplicate(piece.signature)
            ]
            self._decided.append(duplicates)
            append_json_line(self._work / DECISIONS_NAME, duplicates)
        if not clips:
            return
        with open(self._results.clips_path(index), "rb") as file:
            for number, piece in enumerate(clips):
                blocks = file.read(piece.clip_bytes)
                if len(blocks) != piece.clip_bytes:
                    raise ValueError(
                        f"{file.name} is cut short: delete {self._work} and build again"
                    )
                if (
                    number >= self._skip
                    and piece.key not in self._decided[index]
                    and self._writer.add_blocks(blocks)
                ):
                    self._save(index, number)

    def _save(self, source: int, clip: int) -> None:
        """A shard is complete: from now on packing starts at this clip, and what lies before it
        is not needed again.
        """
        state: dict[str, Any] = {
            "shards": self._shards + len(self._writer.completed),
            "source": source,
            "clip": clip,
        }
        write_json(self._work / STATE_NAME, state)
        for index in range(self._forgotten, source):
            self._results.forget_clips(index)
        self._forgotten = source

    def _recall(self) -> None:
        """Take over what was decided before a kill, so that it need not be decided again."""
        path = self._work / DECISIONS_NAME
        if not path.exists():
            return
        for index, duplicates in enumerate(read_json_lines(path)):
            self._decided.append(duplicates)
            for piece in self._results.read(index).pieces:
                if piece.outcome == KEPT and piece.key not in duplicates:
                    self._duplicates.add(piece.signature)

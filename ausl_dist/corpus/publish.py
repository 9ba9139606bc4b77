"""A folder of finished shards becomes a corpus at a URL: uploaded, surveyed, stated, and indexed last.

    FOLDER/shard-*.tar ──▶ URL/shard-*.tar ──▶ URL/ledger.jsonl ──▶ URL/corpus.json ──▶ URL/index.chunks.npy, index.json

A corpus without its index is not one to any reader, so whatever moment the publisher is killed a reader sees the old corpus or
the new one. `URL` is a path or s3://bucket/prefix; publishing a folder to itself uploads nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ausl_dist
from ausl_dist.clip import META_SUFFIX, REQUIRED_SUFFIXES, ClipMeta
from ausl_dist.corpus.shards import read_members
from ausl_dist.landmarks import CROP_SIZE
from ausl_dist.stream import storage
from ausl_dist.stream.index import scan_shard, write_index

STATEMENT_NAME = "corpus.json"
LEDGER_NAME = "ledger.jsonl"
STATEMENT_FORMAT = 1


@dataclass
class Tally:
    """What the clips of a corpus say of themselves, added up."""

    clips: int = 0
    frames: int = 0
    seconds: float = 0.0
    sources: Counter[str] = field(default_factory=Counter)  # clips of each source video
    identities: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    labelled_clips: int = 0
    action_units: tuple[int, ...] = ()
    uniform: dict[str, Any] = field(default_factory=dict)  # fps, detector, alignment: one value for the whole corpus

    def add(self, key: str, meta: ClipMeta) -> None:
        """Count one clip; raises ValueError when it cannot stand in one corpus with the clips before it."""
        for name in ("fps", "detector", "alignment"):
            value = getattr(meta, name)
            if self.uniform.setdefault(name, value) != value:
                raise ValueError(f"clip {key} has {name} {value!r}, the clips before it {self.uniform[name]!r}: one corpus must have one")
        if meta.action_units:
            if self.action_units not in ((), meta.action_units):
                raise ValueError(f"clip {key} is labelled with action units {meta.action_units}, others with {self.action_units}")
            self.action_units = meta.action_units
            self.labelled_clips += 1
        self.clips += 1
        self.frames += meta.frames
        self.seconds += meta.frames / meta.fps
        self.sources[meta.source] += 1
        self.identities[meta.identity] += 1
        self.licences[meta.licence] += 1

    def add_shard(self, path: Path) -> None:
        """Count every clip of a shard; raises ValueError naming the shard and clip that break the clip record."""
        for key, members in read_members(path):
            missing = [suffix for suffix in REQUIRED_SUFFIXES if suffix not in members]
            if missing:
                raise ValueError(f"{path}: clip {key} has no {' and no '.join(missing)}")
            try:
                self.add(key, ClipMeta.from_bytes(members[META_SUFFIX]))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error


def statement(name: str, tally: Tally, *, books: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of corpus.json: what is in the corpus, where it comes from, and how it was made."""
    return {
        "format": STATEMENT_FORMAT,
        "name": name,
        "builder": f"ausl_dist {ausl_dist.__version__}",
        "clips": tally.clips,
        "frames": tally.frames,
        "seconds": round(tally.seconds, 3),
        "fps": tally.uniform.get("fps"),
        "crop_size": CROP_SIZE,
        "sources": len(tally.sources),
        "identities": len(tally.identities),
        "licences": dict(sorted(tally.licences.items())),
        "detector": tally.uniform.get("detector"),
        "alignment": tally.uniform.get("alignment"),
        "labelled_clips": tally.labelled_clips,
        "action_units": list(tally.action_units),
        "books": dict(books or {}),
        "settings": dict(settings or {}),
    }


def publish(
    folder: Path | str,
    url: str,
    *,
    name: str,
    books: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    ledger: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Make the shards in `folder` a corpus at `url`; returns its statement.

    Shards that lie at `url` already with the same size are not sent again, so a killed upload goes on. Raises ValueError when there
    is no shard or a clip breaks the clip record.
    """
    folder = Path(folder)
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise ValueError(f"{folder} holds no shard-*.tar: no clip was kept, see the ledger of rejected pieces")
    in_place = is_same_place(folder, url)
    tally, entries = Tally(), []
    for shard in shards:
        tally.add_shard(shard)
        entries.append(scan_shard(shard, shard.name))
        if not in_place:
            _send(shard, storage.join(url, shard.name))
    lines = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in ledger)
    storage.write_bytes(storage.join(url, LEDGER_NAME), lines.encode())
    made = statement(name, tally, books=books, settings=settings)
    storage.write_bytes(storage.join(url, STATEMENT_NAME), json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False).encode())
    write_index(url, entries)
    return made


def is_same_place(folder: Path, url: str) -> bool:
    """Whether `url` is this very folder."""
    return "://" not in url and Path(url).resolve() == folder.resolve()


def _send(path: Path, url: str) -> None:
    filesystem, remote = storage.connect(url)
    if filesystem.exists(remote) and filesystem.size(remote) == path.stat().st_size:
        return
    storage.upload(path, url)

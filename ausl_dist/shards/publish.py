"""A folder of finished shards becomes a corpus at a URL: uploaded, surveyed, stated, and
indexed last.

    FOLDER/shard-*.tar ──▶ URL/shard-*.tar ──▶ URL/ledger.jsonl ──▶ URL/corpus.json
                                           ──▶ URL/index.chunks.npy ──▶ URL/index.json

A corpus without its index is not one to any reader, so whatever moment the publisher is killed
a reader sees the old corpus or the new one. `URL` is a path or s3://bucket/prefix; publishing a
folder to itself uploads nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import ausl_dist
from ausl_dist.json_lines import append_json_line, read_json_lines
from ausl_dist.shards import clip, storage
from ausl_dist.shards.index import Index, ShardEntry, scan_shard, write_index
from ausl_dist.shards.reader import StoredClip, read_clips
from ausl_dist.tables import is_system_file

STATEMENT_NAME = "corpus.json"
LEDGER_NAME = "ledger.jsonl"
SENT_NAME = "sent.jsonl"  # beside the local shards: what an interrupted upload has behind it
STATEMENT_FORMAT = 1
MAX_STATEMENT_BYTES = 64 << 20
UNIFORM = ("fps", "detector", "alignment")  # of which a corpus has one value


@dataclass
class Tally:
    """What the clips of a corpus say of themselves, added up."""

    clips: int = 0
    frames: int = 0
    sources: Counter[str] = field(default_factory=Counter)  # clips of each source video
    identities: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    labelled_clips: int = 0  # in which some value is known
    action_units: tuple[int, ...] = ()
    uniform: dict[str, Any] = field(default_factory=dict)

    def add(self, stored: StoredClip) -> None:
        """Count one clip; raises ValueError when it cannot stand in one corpus with the clips
        before it.
        """
        meta = stored.meta
        self._agree({name: getattr(meta, name) for name in UNIFORM}, meta.action_units)
        self.clips += 1
        self.frames += meta.frames
        self.labelled_clips += is_labelled(stored)
        self.sources[meta.source] += 1
        self.identities[meta.identity] += 1
        self.licences[meta.licence] += 1

    def merge(self, other: "Tally") -> None:
        """Add another part of the corpus."""
        self._agree(other.uniform, other.action_units)
        self.clips += other.clips
        self.frames += other.frames
        self.labelled_clips += other.labelled_clips
        for mine, theirs in (
            (self.sources, other.sources),
            (self.identities, other.identities),
            (self.licences, other.licences),
        ):
            mine.update(theirs)

    def _agree(self, uniform: Mapping[str, Any], action_units: tuple[int, ...]) -> None:
        for name, value in uniform.items():
            if self.uniform.setdefault(name, value) != value:
                raise ValueError(
                    f"{name} is {value!r} here and {self.uniform[name]!r} before: "
                    "one corpus has one"
                )
        if action_units:
            if self.action_units not in ((), action_units):
                raise ValueError(
                    f"action units are {action_units} here and {self.action_units} before: "
                    "one corpus has one list"
                )
            self.action_units = action_units

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Tally":
        counters = {
            name: Counter(values[name]) for name in ("sources", "identities", "licences")
        }
        return cls(**{**values, **counters, "action_units": tuple(values["action_units"])})


def is_labelled(stored: StoredClip) -> bool:
    """Whether some label of a clip is known; ValueError where KEY.au.npy breaks the clip
    record.
    """
    data, meta = stored.members.get(clip.ACTION_UNITS_SUFFIX), stored.meta
    if data is None or not meta.action_units:
        return False
    labels = clip.array_from_bytes(data, np.int8, (meta.frames, len(meta.action_units)))
    return bool((labels >= 0).any())


def survey(folder: Path, prefix: str = "") -> tuple[Tally, list[ShardEntry]]:
    """Read every shard of a folder: what its clips say, and its entry of the index.

    ValueError names the shard and clip that is wrong.
    """
    tally, entries = Tally(), []
    for shard in sorted(folder.glob(f"{prefix}*.tar")):
        if is_system_file(shard.name):
            continue
        entries.append(scan_shard(shard, shard.name))
        for stored in read_clips(shard):
            try:
                tally.add(stored)
            except ValueError as error:
                raise ValueError(f"{shard}, clip {stored.key}: {error}") from error
    return tally, entries


def statement(
    name: str,
    tally: Tally,
    *,
    build: str = "",
    books: Mapping[str, Any],
    settings: Mapping[str, Any],
    removed: Iterable[Any] = (),
) -> dict[str, Any]:
    """The content of corpus.json: what is in the corpus, where it comes from, how it was made,
    and what was taken out since.
    """
    return {
        "format": STATEMENT_FORMAT,
        "name": name,
        "builder": f"ausl_dist {ausl_dist.__version__}",
        "build": build,
        "clips": tally.clips,
        "frames": tally.frames,
        "seconds": round(tally.frames / tally.uniform["fps"], 3) if tally.clips else 0.0,
        **{key: tally.uniform.get(key) for key in UNIFORM},
        "sources": len(tally.sources),
        "identities": len(tally.identities),
        "licences": dict(sorted(tally.licences.items())),
        "labelled_clips": tally.labelled_clips,
        "action_units": list(tally.action_units),
        "books": dict(books),
        "settings": dict(settings),
        "removed": list(removed),
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

    A killed upload goes on where it stopped. Raises ValueError when there is no shard or a clip
    breaks the clip record.
    """
    folder = Path(folder)
    tally, entries = survey(folder)
    if not entries:
        raise ValueError(
            f"{folder} holds no shard-*.tar: make some, or run python -m tools.build_corpus"
        )
    send_shards(folder, url, entries)
    made = statement(name, tally, books=books or {}, settings=settings or {})
    write_corpus(url, made, entries, ledger)
    return made


def write_corpus(
    url: str,
    made: Mapping[str, Any],
    entries: Iterable[ShardEntry],
    ledger: Iterable[Mapping[str, Any]],
) -> None:
    """Write ledger, statement and index beside shards that are there; the index, which makes
    them a corpus, last.
    """
    storage.write_bytes(storage.join(url, LEDGER_NAME), json_lines(ledger))
    storage.write_bytes(storage.join(url, STATEMENT_NAME), to_json(made))
    write_index(url, entries)


def index_entries(index: Index) -> list[ShardEntry]:
    """The shards of an index as entries again, to be written into another."""
    entries = []
    for number, row in enumerate(index.shards):
        chunks = np.array(index.chunks[index.chunks["shard"] == number])
        entries.append(ShardEntry(**asdict(row), fps=index.fps, chunks=chunks))
    return entries


def send_shards(folder: Path, url: str, entries: Iterable[ShardEntry]) -> None:
    """Upload the shards of a folder, but for those whose very content went to this very address
    before and is there.
    """
    if is_same_place(folder, url):
        return
    record = folder / SENT_NAME
    sent = list(read_json_lines(record)) if record.exists() else []
    for entry in entries:
        line = {"url": storage.join(url, entry.name), "sha256": entry.sha256}
        if line not in sent or not _is_there(line["url"], entry.bytes):
            storage.upload(folder / entry.name, line["url"])
            append_json_line(record, line)


def _is_there(url: str, size: int) -> bool:
    """Whether a file of this size is at `url`: somebody may have emptied the place since."""
    return storage.exists(url) and storage.size_of(url) == size


def is_same_place(folder: Path, url: str) -> bool:
    """Whether `url` is this very folder."""
    return "://" not in url and Path(url).resolve() == folder.resolve()


def to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def json_lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(
        json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values
    ).encode()

"""Shards that somebody else's tool wrote become a corpus: an index, a statement, and a list of
what they lack.

    URL/*.tar of clips ──(each read once)──▶ index.json, index.chunks.npy, corpus.json
    URL/*.tar of face crops ──fill.py──▶ URL/adopted-*.tar ──▶ the same, of those
    files of face crops ──fill.py──▶ OUT/adopted-*.tar ──▶ the same, at OUT
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ausl_dist.corpus.bring import list_files, local_copy, reader_of
from ausl_dist.corpus.fill import PREFIX, Filled, Filling, fill
from ausl_dist.corpus.lock import Lock, locked
from ausl_dist.corpus.raw_tar import list_samples
from ausl_dist.shards import clip, storage
from ausl_dist.shards.index import INDEX_NAME, ShardEntry, scan_shard, write_index
from ausl_dist.shards.publish import (
    LEDGER_NAME,
    STATEMENT_NAME,
    Tally,
    json_lines,
    statement,
    to_json,
)
from ausl_dist.shards.reader import read_clips
from ausl_dist.shards.tar import TarError

# What a part of the clip record is for; objectives say which they need (landmarks, identity,
# action_units).
USES = {
    "landmarks": "objectives that look at face regions or landmarks",
    "identity": "objectives that compare people, and splits that keep people apart",
    "action_units": "supervised objectives and evaluation",
}


@dataclass
class Adoption:
    """What was found in the shards."""

    tally: Tally = field(default_factory=Tally)
    filled: Filled | None = None  # where the shards were none of clips
    # clips that have each part of the record
    present: Counter[str] = field(default_factory=Counter)

    def missing(self) -> list[str]:
        """One sentence for each part of the record that some clip lacks."""
        return [
            f"{name}: {self.present[name]} of {self.tally.clips} clips have it; "
            f"without it they are of no use to {use}"
            for name, use in USES.items()
            if self.present[name] < self.tally.clips
        ]


def adopt(
    url: str,
    *,
    filling: Filling | None = None,
    on_shard: Callable[[ShardEntry, int], None] = lambda entry, total: None,
) -> Adoption:
    """Index the shards at `url` (not in folders below it).

    Shards that hold no clip record are left as they are; what they show is written beside them
    as clips, with what is missing filled in (`filling` says what is known), and those are
    indexed.

    Raises ValueError, naming shard and clip, where they break the clip record.
    """
    with locked(url) as lock:
        return _adopt(url, lock, filling or Filling(), on_shard)


def adopt_crops(
    inputs: Sequence[str],
    out: str,
    *,
    filling: Filling | None = None,
    on_shard: Callable[[ShardEntry, int], None] = lambda entry, total: None,
) -> Adoption:
    """Write ready face crops (videos, folders of frames, shards of either) as a corpus at
    `out`.

    Raises ValueError when there is one already, or no input is a clip.
    """
    if storage.exists(storage.join(out, INDEX_NAME)):
        raise ValueError(
            f"{out} holds a corpus already: choose another --out, or delete it first"
        )
    with tempfile.TemporaryDirectory(prefix="ausl-adopted-") as folder:
        filled = fill(inputs, Path(folder), filling or Filling())
        made = sorted(Path(folder).glob("*.tar"))
        for path in made:
            storage.upload(path, storage.join(out, path.name))
    if filled.ledger:
        storage.write_bytes(storage.join(out, LEDGER_NAME), json_lines(filled.ledger))
    with locked(out) as lock:
        return _index(out, [path.name for path in made], filled, lock, on_shard)


def _adopt(
    url: str, lock: Lock, filling: Filling, on_shard: Callable[[ShardEntry, int], None]
) -> Adoption:
    names = [name for name in list_files(url) if name.endswith(".tar") and "/" not in name]
    if not names:
        raise FileNotFoundError(f"{url} holds no .tar file")
    filled = None
    raw = [name for name in names if not name.startswith(f"{PREFIX}-")]
    if raw and _is_foreign(url, raw[0]):
        names, filled = _fill(url, raw, filling)
    return _index(url, names, filled, lock, on_shard)


def _index(
    url: str,
    names: Sequence[str],
    filled: Filled | None,
    lock: Lock,
    on_shard: Callable[[ShardEntry, int], None],
) -> Adoption:
    """Read the shards of these names once; write statement and index."""
    found, entries = Adoption(filled=filled), list[ShardEntry]()
    for name in names:
        with local_copy(url, name) as path:
            entries.append(scan_shard(path, name))
            for stored in read_clips(path):
                meta = stored.meta
                found.tally.add(stored)
                found.present["landmarks"] += clip.LANDMARKS_SUFFIX in stored.members
                found.present["action_units"] += clip.ACTION_UNITS_SUFFIX in stored.members
                found.present["identity"] += bool(meta.identity) and "#" not in meta.identity
        on_shard(entries[-1], len(names))
    if found.filled is not None or not storage.exists(storage.join(url, STATEMENT_NAME)):
        name = url.rstrip("/").rsplit("/", 1)[-1]
        made = statement(name, found.tally, books={}, settings={})
        storage.write_bytes(storage.join(url, STATEMENT_NAME), to_json(made))
    lock.confirm()
    write_index(url, entries)
    return found


def _is_foreign(url: str, name: str) -> bool:
    """Whether the first sample of a shard has nothing of a clip record."""
    try:
        first = next(list_samples(*reader_of(storage.join(url, name))), None)
    except TarError:
        return False  # the scan says what is wrong, and where
    return first is not None and not {"alignment", "detector"} <= first.about.keys()


def _fill(url: str, names: list[str], filling: Filling) -> tuple[list[str], Filled]:
    """Write clips made of these shards beside them; their names, and what was filled in."""
    tars = [storage.join(url, name) for name in names]
    with tempfile.TemporaryDirectory(prefix="ausl-adopted-") as folder:
        filled = fill(tars, Path(folder), filling)
        made = sorted(Path(folder).glob("*.tar"))
        for path in made:
            storage.upload(path, storage.join(url, path.name))
    ledger = storage.join(url, LEDGER_NAME)
    if filled.ledger or storage.exists(ledger):
        storage.write_bytes(ledger, json_lines(filled.ledger))
    return [path.name for path in made], filled

"""Shards that somebody else's tool wrote become a corpus: an index, a statement, and a list of what
they lack.

URL/*.tar ──(each read once)──▶ index.json, index.chunks.npy, corpus.json
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ausl_dist.corpus.lock import Lock, locked
from ausl_dist.corpus.publish import STATEMENT_NAME, Tally, statement, to_json
from ausl_dist.corpus.sources import list_files, local_copy
from ausl_dist.shards import clip, storage
from ausl_dist.shards.index import ShardEntry, scan_shard, write_index
from ausl_dist.shards.reader import read_clips

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
    url: str, *, on_shard: Callable[[ShardEntry, int], None] = lambda entry, total: None
) -> Adoption:
    """Index the shards at `url` (not in folders below it).

    Raises ValueError, naming shard and clip, where they break the clip record.
    """
    with locked(url) as lock:
        return _adopt(url, lock, on_shard)


def _adopt(url: str, lock: Lock, on_shard: Callable[[ShardEntry, int], None]) -> Adoption:
    names = [name for name in list_files(url) if name.endswith(".tar") and "/" not in name]
    if not names:
        raise FileNotFoundError(f"{url} holds no .tar file")
    found, entries = Adoption(), list[ShardEntry]()
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
    if not storage.exists(storage.join(url, STATEMENT_NAME)):
        made = statement(url.rstrip("/").rsplit("/", 1)[-1], found.tally, books={}, settings={})
        storage.write_bytes(storage.join(url, STATEMENT_NAME), to_json(made))
    lock.confirm()
    write_index(url, entries)
    return found

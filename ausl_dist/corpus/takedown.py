"""Take a video, an identity or a source out of a finished corpus, without building it again.

    1. find      every clip of every shard is looked at; the plan goes to takedown.json at the URL
    2. index     the shards that hold such clips leave the index: no run that starts sees them
    3. shards    they are written again without the clips, under new names, and enter the index
    4. delete    the old shards go; ledger and statement say what was removed
    Beside the index stands what became of the old one's chunks (shards/removals.py).

One take-down at a time works on a corpus (lock.py); another waits. A kill in between leaves a
corpus that shows too little, never too much; the next take-down, the same or another, finishes
the work first. A run that began before goes on over the old index: the removed clips are
missing, the others are read from their new places.
"""

import re
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ausl_dist.corpus.bring import list_files, local_copy
from ausl_dist.corpus.lock import Lock, locked
from ausl_dist.corpus.parts import PARTS_FOLDER
from ausl_dist.files import as_ours, json_object
from ausl_dist.shards import storage
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.index import (
    INDEX_NAME,
    SHARD_NAME_PATTERN,
    Index,
    ShardEntry,
    scan_shard,
    write_index,
)
from ausl_dist.shards.publish import (
    LEDGER_NAME,
    STATEMENT_NAME,
    Tally,
    index_entries,
    json_lines,
    statement,
    to_json,
)
from ausl_dist.shards.reader import StoredClip, read_clips
from ausl_dist.shards.removals import Removals
from ausl_dist.shards.writer import ShardWriter

PLAN_NAME = "takedown.json"
MAX_ACCOUNT_BYTES = 1 << 30
_REVISION = re.compile(r"(?:-r(\d+))?\.tar$")


@dataclass(frozen=True)
class Request:
    """What to remove: a source goes by its name or the beginning of it up to a '/', an identity
    and a clip by their whole name.
    """

    sources: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.sources or self.identities or self.clips):
            raise ValueError("nothing to take down: name a --source, an --identity or a --clip")

    def matches(self, key: str, meta: ClipMeta) -> bool:
        found, identity = _one_way(meta.source), _one_way(meta.identity)
        by_source = any(
            found == source or found.startswith(source.rstrip("/") + "/")
            for source in map(_one_way, self.sources)
        )
        by_identity = identity in map(_one_way, self.identities)
        return by_source or by_identity or key in self.clips


def _one_way(name: str) -> str:
    """A name with its letters written in one way: macOS writes é as two signs."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Removed:
    """What a take-down did."""

    clips: int
    seconds: float
    shards: int


def take_down(
    url: str,
    request: Request,
    *,
    date: str,
    why: str = "",
    on_wait: Callable[[str], object] = lambda what: None,
) -> Removed:
    """Remove what the request names from the corpus at `url`; `date` and `why` go into its
    statement. Nothing found is not an error. `on_wait` hears of another that is at work.
    """
    with locked(url, on_wait) as lock:
        return _take_down(url, request, lock, date=date, why=why)


def _take_down(url: str, request: Request, lock: Lock, *, date: str, why: str) -> Removed:
    asked = {
        **{name: list(value) for name, value in vars(request).items()},
        "date": date,
        "why": why,
    }
    unfinished = storage.join(url, PLAN_NAME)
    if storage.exists(unfinished):
        plan = _read_plan(unfinished)
        removed = _carry_out(url, plan, lock)
        if plan["asked"] == asked:
            return removed
    plan = {"asked": asked, **_find(url, request)}
    if not plan["affected"]:
        return Removed(0, 0.0, 0)
    lock.confirm()
    storage.write_bytes(unfinished, to_json(plan))
    return _carry_out(url, plan, lock)


def _read_plan(url: str) -> dict[str, Any]:
    """A take-down that was not finished. What it names is deleted, so it may name shards alone;
    ValueError where it is none of ours.
    """
    with as_ours(url):
        plan = json_object(storage.read_bytes(url, MAX_ACCOUNT_BYTES), url)
        for name, keys in plan["affected"].items():
            if not (SHARD_NAME_PATTERN.fullmatch(name) and name.endswith(".tar")):
                raise ValueError(f"{url} names {name[:100]!r}, which is no shard")
            set(keys)
        sum(line["seconds"] for line in plan["ledger"])
        Tally.from_dict(plan["tally"])
        return {**plan, "asked": dict(plan["asked"])}


def _find(url: str, request: Request) -> dict[str, Any]:
    """Look at every clip: which go, from which shards, and what the others add up to."""
    tally, lines, affected = Tally(), list[dict[str, Any]](), dict[str, list[str]]()
    for shard in Index.load(url).shards:
        with local_copy(url, shard.name) as path:
            for stored in read_clips(path):
                if request.matches(stored.key, stored.meta):
                    affected.setdefault(shard.name, []).append(stored.key)
                    lines.append(_ledger_line(stored))
                else:
                    tally.add(stored)
    return {"affected": affected, "ledger": lines, "tally": vars(tally)}


def _carry_out(url: str, plan: dict[str, Any], lock: Lock) -> Removed:
    """Do what is planned, or what is left of it."""
    affected: dict[str, list[str]] = plan["affected"]
    removals = Removals.load(url)
    lock.confirm()
    _keep_index(url, removals)
    entries = _entries_but_for(url, set(affected))
    _write_index(url, entries, lock)
    _keep_index(url, removals)  # runs may begin with it while the shards are written
    for name, keys in affected.items():
        if next_revision(name) not in entries and storage.exists(storage.join(url, name)):
            entry = _rewrite(url, name, set(keys), removals)
            if entry is not None:
                entries[entry.name] = entry
    lock.confirm()
    removals.save(url)
    _write_index(url, entries, lock)
    for name in affected:
        _delete(storage.join(url, name))
    lock.confirm()
    _write_account(url, plan)
    _delete(storage.join(url, PARTS_FOLDER))  # the accounts of the parts are not true any more
    _delete(storage.join(url, PLAN_NAME))
    return Removed(
        len(plan["ledger"]),
        round(sum(line["seconds"] for line in plan["ledger"]), 3),
        len(affected),
    )


def _entries_but_for(url: str, affected: set[str]) -> dict[str, ShardEntry]:
    """The entries of the shards that stay."""
    if storage.exists(storage.join(url, INDEX_NAME)):
        try:
            return {
                entry.name: entry
                for entry in index_entries(Index.load(url))
                if entry.name not in affected
            }
        # a kill fell between the two files of the index: the shards know what is in them
        except ValueError:
            pass
    entries = {}
    for name in list_files(url):
        if name.endswith(".tar") and "/" not in name and name not in affected:
            with local_copy(url, name) as path:
                entries[name] = scan_shard(path, name)
    return entries


def _ledger_line(stored: StoredClip) -> dict[str, Any]:
    meta = stored.meta
    seconds = round(meta.frames / meta.fps, 3)
    place = {"start_second": meta.start_second, "seconds": seconds, "frames": meta.frames}
    return {"source": meta.source, "reason": "removed", **place, "key": stored.key}


def _keep_index(url: str, removals: Removals) -> None:
    removals.keep_index(url)
    removals.save(url)


def _rewrite(url: str, name: str, keys: set[str], removals: Removals) -> ShardEntry | None:
    """Upload the shard without these clips under a new name, and note where the others went;
    None when none is left.
    """
    new_name = next_revision(name)
    with (
        local_copy(url, name) as path,
        tempfile.TemporaryDirectory(prefix="ausl-takedown-") as folder,
    ):
        writer = ShardWriter(folder, max_bytes=1 << 62)
        sizes: list[int | None] = []  # of each clip in the new shard
        for stored in read_clips(path):
            removed = stored.key in keys
            sizes.append(None if removed else len(stored.blocks))
            if not removed:
                writer.add_blocks(stored.blocks)
        made = writer.close()
        if not made:
            removals.move(url, name, new_name, sizes, lambda start, end: b"")
            return None
        with open(made[0], "rb") as file:

            def read(start: int, end: int) -> bytes:
                file.seek(start)
                return file.read(end - start)

            removals.move(url, name, new_name, sizes, read)
        storage.upload(made[0], storage.join(url, new_name))
        return scan_shard(made[0], new_name)


def next_revision(name: str) -> str:
    """shard-000003.tar, shard-000003-r1.tar, shard-000003-r2.tar, …: a name never stands for
    two contents.
    """
    return _REVISION.sub(lambda match: f"-r{int(match[1] or 0) + 1}.tar", name)


def _write_account(url: str, plan: dict[str, Any]) -> None:
    ledger, old_url = storage.join(url, LEDGER_NAME), storage.join(url, STATEMENT_NAME)
    before = _read_if_there(ledger).splitlines()
    removed = json_lines(plan["ledger"]).splitlines()
    written = set(removed)  # perhaps, by an earlier attempt that was killed
    kept = [line for line in before if line not in written]
    storage.write_bytes(ledger, b"".join(line + b"\n" for line in [*kept, *removed]))
    old = json_object(_read_if_there(old_url) or b"{}", old_url)
    entry = {**plan["asked"], "removed_clips": len(removed)}
    made = statement(
        old.get("name", ""),
        Tally.from_dict(plan["tally"]),
        build=old.get("build", ""),
        books=old.get("books", {}),  # of the build, as it was
        settings=old.get("settings", {}),
        removed=[*(past for past in old.get("removed", []) if past != entry), entry],
    )
    storage.write_bytes(old_url, to_json(made))


def _read_if_there(url: str) -> bytes:
    return storage.read_bytes(url, MAX_ACCOUNT_BYTES) if storage.exists(url) else b""


def _write_index(url: str, entries: dict[str, ShardEntry], lock: Lock) -> None:
    lock.confirm()
    if entries:
        write_index(url, entries.values())
    else:
        _delete(storage.join(url, INDEX_NAME))  # nothing is left to be seen


def _delete(url: str) -> None:
    """Delete a file, or a folder with all that is in it; nothing there is fine."""
    filesystem, path = storage.connect(url)
    try:
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)
    except Exception as error:
        raise OSError(f"{url} cannot be deleted: {type(error).__name__}: {error}") from error

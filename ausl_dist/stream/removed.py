"""Clips that are taken out of a corpus while a run goes on over its old index.

    URL/removals.json ──look, every minute──▶ chunks that moved
        ──▶ memory and disk cache let go of them
        ──▶ their other clips are read from the new place

The order does not change. A removed clip keeps its slot with weight 0, for the reason
`removed`.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from ausl_dist.shards.index import Index
from ausl_dist.shards.removals import Moved, Removals
from ausl_dist.shards.retry import Retry
from ausl_dist.stream.ledger import Clips, MissingClip

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0

Listener = Callable[[str, int | None, Moved], None]


class TakenDown:
    """What has become of the chunks of a run's corpora, as far as is known."""

    def __init__(self, indexes: Mapping[str, Index], retry: Retry) -> None:
        self._indexes, self._retry = indexes, retry
        self._moved: dict[str, dict[int, Moved]] = {name: {} for name in indexes}
        self._let_go: set[tuple[int, int]] = set()  # bytes and checksums of chunks
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    @property
    def clips(self) -> dict[str, int]:
        """How many clips of each corpus were removed since the run's index was written."""
        return {
            name: sum(
                int(self._indexes[name].chunks["clips"][n]) - len(m.kept) for n, m in rows
            )
            for name, rows in (
                (name, list(moved.items())) for name, moved in self._moved.items()
            )
        }

    def listen(self, listener: Listener) -> None:
        """Have `listener(corpus, row, moved)` called for each chunk that is found to have
        moved; the row is None for one of an index that is not this run's, which a cache may
        hold.
        """
        self._listeners.append(listener)

    def of(self, corpus: str, number: int) -> Moved | None:
        """What became of a chunk, where it moved."""
        return self._moved[corpus].get(number)

    def look(self) -> None:
        """Learn what was taken down since the last look; a store that cannot be asked is asked
        again at the next one.
        """
        for corpus, index in self._indexes.items():
            try:
                removals = Removals.load(index.url, self._retry).moved
            except (OSError, ValueError) as error:
                log.warning(
                    "what was taken down from corpus %s is not known: %s", corpus, error
                )
                continue
            with self._lock:
                known = self._moved[corpus]
                mine = removals.get(index.digest, {})
                news = {row: moved for row, moved in mine.items() if known.get(row) != moved}
                self._moved[corpus] = {**known, **news}
            if news:
                log.warning(
                    "clips of corpus %s were taken down: %s", corpus, self.clips[corpus]
                )
            others = [m for rows in removals.values() for m in rows.values()]
            for row, moved in [*news.items(), *((None, moved) for moved in others)]:
                if row is not None or not self._let_go.issuperset(moved.was):
                    self._let_go.update(moved.was)
                    for listener in self._listeners:
                        listener(corpus, row, moved)


def let_go(clips: Clips, moved: Moved) -> None:
    """Let go of the clips of a chunk that were removed."""
    for clip in range(len(clips)):
        if clip not in moved.kept:
            clips[clip] = removed_clip()


def removed_clip() -> MissingClip:
    """What stands in the place of a clip that was taken down."""
    return MissingClip(
        "removed", "taken down from the corpus after this run's index was written"
    )

"""Which clip comes n-th: a pure function of (index, seed, lane, n), without iterators, buffers
or files.

    n-th clip of lane l
      1. mixture:  n falls into a period; the quotas say which corpus, and which clip of its own
         count in this lane
      2. epoch:    the corpus' chunks stand in an order drawn for the epoch; that line of N clips is
         cut into one segment for each lane, and the count divided by the segment's length is
         (epoch, position)
      3. window:   inside the segment, clips are shuffled in windows
      4. chunk:    a binary search in the running sum of clip counts turns the place in the line
         into (chunk, clip in chunk)

Every step is arithmetic on a few integers, so step 10 million is found as fast as step 0. Each
clip comes once in an epoch; lanes with a segment one clip shorter start their next epoch one
clip earlier. The global batch k is the clips k c .. k c + c - 1 of each lane (c:
clips_per_lane), and rank r of W serves lanes r, r + W, ...; so the batch does not depend on W.

What is lost against a full permutation: a batch takes its c clips of a lane from one window of
a few chunks, and clips of one chunk come from neighbouring videos. tests/stream/test_order.py
measures how far that is from full shuffling.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ausl_dist.stream.permutation import Permutation

# Of all that is drawn here, in permutation.py and in augment.py: a checkpoint of another
# version is refused.
ORDER_VERSION = 1

MAX_TABLE_BYTES = 64 << 20  # of running sums kept; the two newest are kept whatever their size
_CHUNKS_AT_ONCE = 1 << 18
SMALLER_BATCH = (
    "lower batch.clips or the number of ranks, from which lanes follow, or data.lanes where it "
    "is set"
)


@dataclass(frozen=True)
class Slot:
    """One clip of the order, and how long its lane will need the chunk it lies in."""

    corpus: str
    epoch: int
    chunk: int  # row in the corpus' chunk table
    clip: int  # which clip of the chunk
    # this lane needs nothing more of the chunk in this epoch once its count in the corpus
    # reaches this ...
    until: int
    # ... where every clip of the corpus with a count below this one's has come before, in this
    # lane
    count: int


def check_lanes(corpus: str, clips: int, lanes: int) -> None:
    """Raise ValueError where a corpus has too few clips to be dealt to the lanes."""
    if clips < lanes:
        raise ValueError(
            f"corpus {corpus} has {clips} clips, fewer than data.lanes={lanes}; {SMALLER_BATCH}"
        )


class CorpusOrder:
    """Steps 2 to 4 for one corpus; `clips` holds the number of clips of each chunk."""

    def __init__(
        self,
        name: str,
        clips: NDArray[np.unsignedinteger],
        *,
        seed: int,
        lanes: int,
        window: int,
    ) -> None:
        self.name, self.seed, self.lanes, self.window = name, seed, lanes, window
        self.num_clips = int(clips.sum(dtype=np.uint64))
        check_lanes(name, self.num_clips, lanes)
        self._clips = clips
        self._tables: OrderedDict[int, tuple[Permutation, NDArray[np.unsignedinteger]]] = (
            OrderedDict()
        )

    def segment(self, lane: int) -> tuple[int, int]:
        """The places [start, end) in an epoch's line of clips that a lane owns."""
        return -(-lane * self.num_clips // self.lanes), -(
            -(lane + 1) * self.num_clips // self.lanes
        )

    def slot(self, lane: int, number: int, count: int) -> Slot:
        """The clip with this number in this lane's count of this corpus."""
        start, end = self.segment(lane)
        length = end - start
        epoch, position = divmod(number, length)
        # Windows of different lanes end at different times, so that a new window's chunks are
        # not asked for by all lanes at once.
        phase = lane * self.window // self.lanes
        window = (position + phase) // self.window
        first, last = self._window(window, phase, length)
        shuffle = Permutation(last - first, self.seed, self.name, "window", epoch, lane, window)
        place = start + first + shuffle(position - first)
        permutation, starts = self._table(epoch)
        row = int(np.searchsorted(starts, starts.dtype.type(place), side="right")) - 1
        chunk_end = min(int(starts[row + 1]), end) - start  # in positions of the segment
        until = (
            epoch * length
            + self._window((chunk_end - 1 + phase) // self.window, phase, length)[1]
        )
        return Slot(self.name, epoch, permutation(row), place - int(starts[row]), until, count)

    def _window(self, window: int, phase: int, length: int) -> tuple[int, int]:
        return max(0, window * self.window - phase), min(
            length, (window + 1) * self.window - phase
        )

    def _table(self, epoch: int) -> tuple[Permutation, NDArray[np.unsignedinteger]]:
        """The epoch's order of chunks, and the place in the line where each begins (and, last,
        where the line ends).
        """
        if epoch in self._tables:
            self._tables.move_to_end(epoch)
            return self._tables[epoch]
        permutation = Permutation(len(self._clips), self.seed, self.name, "chunks", epoch)
        starts: NDArray[np.unsignedinteger] = np.zeros(
            len(self._clips) + 1, np.uint32 if self.num_clips < 1 << 32 else np.uint64
        )
        total = 0
        for first in range(0, len(self._clips), _CHUNKS_AT_ONCE):
            rows = np.arange(
                first, min(first + _CHUNKS_AT_ONCE, len(self._clips)), dtype=np.uint64
            )
            sums = np.cumsum(self._clips[permutation.many(rows)], dtype=np.uint64) + np.uint64(
                total
            )
            starts[first + 1 : first + 1 + len(rows)] = sums
            total = int(sums[-1])
        self._tables[epoch] = permutation, starts
        while (
            len(self._tables) > 2
            and sum(table.nbytes for _, table in self._tables.values()) > MAX_TABLE_BYTES
        ):
            self._tables.popitem(last=False)
        return permutation, starts


class Order:
    """The order of a run over one corpus or several.

    `clips` maps each corpus' name to the clip counts of its chunks, `quotas` to how many clips
    of each period of sum(quotas) clips are its own, in every lane. Raises ValueError, naming
    the setting, for what cannot be dealt.
    """

    def __init__(
        self,
        clips: Mapping[str, NDArray[np.unsignedinteger]],
        quotas: Mapping[str, int],
        *,
        seed: int,
        lanes: int,
        clips_per_lane: int,
        window: int,
    ) -> None:
        self.seed, self.lanes, self.clips_per_lane = seed, lanes, clips_per_lane
        # By name: the order must not depend on the order in which a config lists its corpora.
        self.corpora = [
            CorpusOrder(name, clips[name], seed=seed, lanes=lanes, window=window)
            for name in sorted(clips)
        ]
        self._quotas = [quotas[corpus.name] for corpus in self.corpora]
        self._period = sum(self._quotas)
        total = sum(corpus.num_clips for corpus in self.corpora)
        if total < lanes * clips_per_lane:
            raise ValueError(
                f"the corpora hold {total} clips, fewer than one batch of data.lanes={lanes} x "
                f"data.clips_per_lane={clips_per_lane}; {SMALLER_BATCH}"
            )

    def slot(self, lane: int, number: int) -> Slot:
        """The clip with this number in this lane."""
        if not 0 <= lane < self.lanes or number < 0:
            raise IndexError(f"lane {lane} of {self.lanes}, clip {number}")
        if len(self.corpora) == 1:
            return self.corpora[0].slot(lane, number, number)
        period, position = divmod(number, self._period)
        # A shuffle of the period's places: those that land in the first quota are the first
        # corpus' clips, and so on.
        place = Permutation(self._period, self.seed, "mixture", lane, period)(position)
        for corpus, quota in zip(self.corpora, self._quotas, strict=True):
            if place < quota:
                return corpus.slot(lane, period * quota + place, period * quota)
            place -= quota
        raise AssertionError("a place lies within the sum of the quotas")

    def batch(self, step: int, lanes: range) -> list[tuple[int, Slot]]:
        """(lane, slot) of the clips of these lanes in the global batch of a step, lane by lane."""
        first = step * self.clips_per_lane
        return [
            (lane, self.slot(lane, first + offset))
            for lane in lanes
            for offset in range(self.clips_per_lane)
        ]


def lanes_of_rank(lanes: int, rank: int, world_size: int) -> range:
    """The lanes that a rank serves; ValueError, with the numbers of ranks that would do, when
    they cannot be dealt evenly.
    """
    if lanes % world_size:
        fitting = ", ".join(str(size) for size in range(1, lanes + 1) if lanes % size == 0)
        raise ValueError(
            f"data.lanes={lanes} cannot be dealt to {world_size} ranks; run {fitting} ranks, "
            "or change data.lanes"
        )
    return range(rank, lanes, world_size)

"""How long and how much an answer from outside may be, as its bytes come in.

    first byte  ──▶ within `silence_seconds`, and so each byte after it
    then        ──▶ at least MIN_BYTES_PER_SECOND once `grace_seconds` have passed
    all of it   ──▶ at most `max_bytes`, within `timeout_seconds`

A time-out between two bytes, which is all that HTTP clients have, never ends an answer that
trickles: its header, its body, or the text of its error.
"""

import time
from collections.abc import Callable

SILENCE_SECONDS = 15.0
GRACE_SECONDS = 5.0
MIN_BYTES_PER_SECOND = 16 << 10


class Pace:
    """Keeps watch over one answer; both methods raise OSError when it has lost its claim to
    more.

    However short `timeout_seconds` is, a dead answer is given up early enough for another try.
    """

    def __init__(
        self,
        timeout_seconds: float,
        max_bytes: int,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # what was raised: clients hide it in errors of theirs
        self.problem: OSError | None = None
        self._timeout_seconds, self._max_bytes, self._clock = timeout_seconds, max_bytes, clock
        self._silence_seconds = min(silence_seconds, timeout_seconds / 2)
        self._grace_seconds = min(GRACE_SECONDS, timeout_seconds / 4)
        self._end = clock() + timeout_seconds
        self._first: float | None = None  # when the first byte came
        self._bytes = 0

    def seconds(self) -> float:
        """How long the next bytes may take."""
        now = self._clock()
        if now >= self._end:
            self._give_up(TimeoutError(f"not read within {self._timeout_seconds:.0f} s"))
        if self._first is not None:
            since = now - self._first
            if self._bytes < MIN_BYTES_PER_SECOND * (since - self._grace_seconds):
                self._give_up(
                    TimeoutError(
                        f"{self._bytes} bytes in {since:.1f} s are slower than "
                        f"{MIN_BYTES_PER_SECOND >> 10} KiB/s"
                    )
                )
        return min(self._silence_seconds, self._end - now)

    def came(self, count: int) -> None:
        """Note that `count` bytes have come."""
        if self._first is None:
            self._first = self._clock()
        self._bytes += count
        if self._bytes > self._max_bytes:
            self._give_up(OSError(f"more than the {self._max_bytes} bytes that may come came"))

    def _give_up(self, problem: OSError) -> None:
        self.problem = problem
        raise problem

"""The one retry layer: repeat a failing call with jittered back-off until it succeeds or one
deadline passes.

Nothing below it retries (storage.py switches botocore's and s3fs's own retries off): layered
retries multiply, and the deadline would mean nothing.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

LAST_TRY_SHARE = 0.1  # of the deadline that a try must have left


class Permanent(Exception):
    """Carries an error that no repetition can cure; `call` raises that error at once."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class DeadlinePassed(OSError):
    """The call kept failing until its deadline; the message ends with the last error."""


@dataclass(frozen=True)
class Retry:
    """When to try again.

    Clock, sleep and jitter are arguments so that tests need no waiting and a shutdown can
    interrupt it.
    """

    # longer than a server's restart, and than the 60 s stalls that stores are known for
    deadline_seconds: float = 300.0
    first_wait_seconds: float = 0.1
    longest_wait_seconds: float = 15.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], object] = field(default=time.sleep, repr=False)
    # timing only: never touches what is read
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    def call(
        self,
        function: Callable[[float], T],
        on_retry: Callable[[OSError], None] = lambda error: None,
        since: float | None = None,
    ) -> T:
        """Return `function(seconds_left)`, repeated while it raises OSError.

        `since` is when the time began to run, by `clock`; None for now. Raises the error inside
        `Permanent` at once, DeadlinePassed when the time is over.
        """
        end = (self.clock() if since is None else since) + self.deadline_seconds
        if self.clock() >= end:
            raise DeadlinePassed(
                f"not tried, because all reads failed for {self.deadline_seconds:.0f} s"
            )
        attempt = 0
        while True:
            try:
                return function(max(end - self.clock(), 0.001))
            except Permanent as error:
                raise error.error from None
            except OSError as error:
                # Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog
                # 2015): ranks that failed together must not come back together.
                wait = self.jitter() * min(
                    self.longest_wait_seconds, self.first_wait_seconds * 2**attempt
                )
                attempt += 1
                # a try without time to come to anything would hide why the others failed
                if self.clock() + wait >= end - self.deadline_seconds * LAST_TRY_SHARE:
                    raise DeadlinePassed(
                        f"gave up after {attempt} tries in {self.deadline_seconds:.0f} s: {error}"
                    ) from error
                on_retry(error)
                self.sleep(wait)

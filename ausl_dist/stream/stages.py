"""Threads that hand work to each other through bounded queues, and stop together.

An error in any thread stops all of them; what was finished before it is still handed out, then
`get` raises it.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1  # how soon a waiting thread notices a stop
JOIN_SECONDS = 10.0


class Closed(Exception):
    """The stages were stopped while this thread waited."""


class Stages:
    """The running threads of one loader."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` in a thread of its own."""
        thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def put(self, places: "queue.Queue[T]", item: T) -> float:
        """Put an item into a bounded queue and return the seconds that took; raises Closed when
        the stages stop.
        """
        start = time.monotonic()
        while True:
            self.check()
            try:
                places.put(item, timeout=POLL_SECONDS)
                return time.monotonic() - start
            except queue.Full:
                continue

    def get(self, places: "queue.Queue[T]") -> T:
        """Take an item; when there is none any more, raises the error that stopped the stages,
        or Closed.
        """
        while True:
            try:
                return places.get(timeout=POLL_SECONDS)
            except queue.Empty:
                self.check()

    def result(self, future: "Future[T]") -> T:
        """The result of a future, or its exception; raises Closed when the stages stop."""
        while True:
            try:
                return future.result(POLL_SECONDS)
            except NotYet:
                if future.done():
                    raise  # the work itself ran into a timeout
                self.check()

    def sleep(self, seconds: float) -> None:
        """Sleep; raises Closed when the stages stop."""
        if self._stop.wait(seconds):
            raise Closed

    def check(self) -> None:
        """Raise the error that stopped the stages, or Closed, when they have stopped."""
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            raise Closed

    def close(self) -> None:
        """Stop the threads and wait for them."""
        self._stop.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(JOIN_SECONDS)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Closed:
            pass
        except BaseException as error:  # noqa: BLE001 (not swallowed: raised again by `get`)
            if self._error is None:
                self._error = error
            self._stop.set()

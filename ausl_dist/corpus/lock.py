"""One process at a time changes a finished corpus, on a path and in an object store.

    with locked(url) as lock:
        lock.confirm()      before each write that would harm if another had taken over
        …

On a path the operating system holds the lock, and lets go of it however the process ends. In an
object store the lock is an object that is made only where there is none (If-None-Match) and
written again every RENEW_SECONDS by its holder alone (If-Match). One that stays as it is for
LEASE_SECONDS of the waiting process's own clock has lost its holder, and is taken over. Nothing
stays behind. A store that lets a write pass whose condition does not hold is refused.
"""

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ausl_dist.shards import storage

LOCK_NAME = "corpus.lock"
RENEW_SECONDS = 10.0
LEASE_SECONDS = 60.0
POLL_SECONDS = 0.5
# HTTP: a condition did not hold; two conditional writes came at once; the object is gone.
REFUSED = (412, 409, 404)
NOT_IMPLEMENTED = 501

NO_TAG = '"none"'
_NO_CONDITIONS = (
    "{}: this store does not keep to the conditions of a write (If-None-Match, If-Match), so two "
    "processes could change the corpus at once and spoil it: use a store that does, or change a "
    "copy of the corpus on a path and upload that"
)


class Lock(Protocol):
    """What the holder of a corpus can do."""

    def confirm(self) -> None:
        """Raise OSError when another process has taken the corpus over."""


@contextlib.contextmanager
def locked(
    url: str, on_wait: Callable[[str], object] = lambda what: None, lease: float = LEASE_SECONDS
) -> Iterator[Lock]:
    """Hold the corpus at `url`; waits for whoever holds it, and says so once by `on_wait`."""
    address = storage.join(url, LOCK_NAME)
    path = storage.local_path(address)
    held = _on_path(path, on_wait) if path is not None else _in_store(address, on_wait, lease)
    with held as lock:
        yield lock


class _LockHeld:
    """A lock of the operating system cannot be lost."""

    def confirm(self) -> None:
        pass


@contextlib.contextmanager
def _on_path(path: Path, on_wait: Callable[[str], object]) -> Iterator[Lock]:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist")
    while True:
        file = open(path, "w")  # noqa: SIM115 (closed below: closing lets go of the lock)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait(f"another process changes {path.parent}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is_file_at(file.fileno(), path):
            break
        file.close()  # the holder before has removed it: this is a lock on nothing
    try:
        yield _LockHeld()
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _is_file_at(descriptor: int, path: Path) -> bool:
    mine = os.fstat(descriptor)
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino)
    return False


@contextlib.contextmanager
def _in_store(address: str, on_wait: Callable[[str], object], lease: float) -> Iterator[Lock]:
    held = _StoreLock(address)
    seen, since, told = "", time.monotonic(), False
    while not held.take(replacing=""):
        found = held.found()
        if found != seen:
            seen, since = found, time.monotonic()
        elif found and time.monotonic() - since > lease and held.take(replacing=found):
            break
        if not told:
            on_wait(f"another process changes this corpus ({address} is there): waiting for it")
            told = True
        time.sleep(POLL_SECONDS)
    held.check_conditions()
    ended = threading.Event()
    keeper = threading.Thread(target=held.keep, args=(ended,), daemon=True)
    keeper.start()
    try:
        yield held
    finally:
        ended.set()
        keeper.join()
        held.release()


class _StoreLock:
    """An object that only its holder can write."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._filesystem, path = storage.connect(address)
        if not hasattr(self._filesystem, "call_s3"):
            raise ValueError(
                f"{address}: a corpus is changed on a path or on s3://, not on "
                f"{type(self._filesystem).__name__}"
            )
        bucket, _, key = path.partition("/")
        self._place = {"Bucket": bucket, "Key": key}
        self._owner = secrets.token_hex(8)
        self._writes = 0
        self._tag = ""
        self._writing = threading.Lock()  # the keeper's and the holder's turns

    def take(self, replacing: str) -> bool:
        """Make the object, or write over the one with this tag; False where another was first."""
        with self._writing:
            return self._put(replacing)

    def check_conditions(self) -> None:
        """With the object made: raise ValueError where the store makes it once more all the
        same, or writes over one that has another tag.
        """
        with self._writing:
            if self._put("") or self._put(NO_TAG):
                self._call("delete_object")
                raise ValueError(_NO_CONDITIONS.format(self._address))

    def found(self) -> str:
        """The tag of the object, "" where there is none."""
        answer = self._call("head_object")
        return str(answer["ETag"]) if answer is not None else ""

    def confirm(self) -> None:
        with self._writing:
            if self._tag and (self._put(self._tag) or self._put(self._own_tag())):
                return
            self._tag = ""
        raise OSError(
            f"{self._address} was taken over by another process: this one stood still too long; "
            "run it again"
        )

    def _put(self, replacing: str) -> bool:
        condition = {"IfMatch": replacing} if replacing else {"IfNoneMatch": "*"}
        self._writes += 1
        body = f"{self._owner} {self._writes}\n".encode()
        answer = self._call("put_object", Body=body, **condition)
        if answer is not None:
            self._tag = str(answer["ETag"])
        return answer is not None

    def _own_tag(self) -> str:
        """The tag of the object if this process wrote it and the answer was lost; else one that
        no object has.
        """
        filesystem, path = storage.connect(self._address)
        with contextlib.suppress(OSError):
            tag = self.found()
            if filesystem.cat_file(path).decode(errors="replace").split(" ")[0] == self._owner:
                return tag
        return NO_TAG

    def keep(self, ended: threading.Event) -> None:
        """Write the object again and again until `ended`."""
        while not ended.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):  # the holder sees it when it confirms
                self.confirm()

    def release(self) -> None:
        with contextlib.suppress(OSError):  # it is given up by its age
            if self._tag and self.found() == self._tag:
                self._call("delete_object")

    def _call(self, what: str, **options: Any) -> dict[str, Any] | None:
        """An answer of the store, or None where a condition did not hold or nothing is there."""
        try:
            answer: dict[str, Any] = self._filesystem.call_s3(what, **self._place, **options)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or _status(error) in REFUSED:
                return None
            if _status(error) == NOT_IMPLEMENTED:
                raise ValueError(_NO_CONDITIONS.format(self._address)) from error
            raise OSError(f"{self._address}: {type(error).__name__}: {error}") from error
        return answer


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error of s3fs."""
    response = getattr(error.__cause__, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status is not None else None

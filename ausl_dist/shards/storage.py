"""Files at a URL: a path, s3://bucket/prefix (through s3fs), or whatever else fsspec knows.
Chunks of shards are read through `ranges.py`, which may take a faster way to S3.

Credentials come from the standard places alone (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_ENDPOINT_URL, ~/.aws, instance roles) and appear in no URL, log or error. Every failure is
raised as an OSError or ValueError that names the object, and every call has a limit of time.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import sync
from fsspec.exceptions import FSTimeoutError

from ausl_dist.addresses import refuse_secrets
from ausl_dist.files import naming, temporary_beside, write_atomically
from ausl_dist.shards.pace import MIN_BYTES_PER_SECOND
from ausl_dist.shards.retry import Permanent, Retry

S3_SCHEMES = ("s3", "s3a")
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 15  # without a single byte
MAX_CONNECTIONS = 64
PIECE_BYTES = 16 << 20  # read at a time, so that a fault costs no more than one of them

# Errors of the caller or of the code: they are raised as they are, and no repetition cures
# them.
_MISTAKES = (TypeError, AttributeError, AssertionError, NotImplementedError)
NOT_FOUND_STATUSES = (404, 410)
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def connect(url: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem that serves `url`, and the path of `url` in it; to be called in the
    process that uses it (not before a fork).
    """
    refuse_secrets(str(url))
    options: dict[str, Any] = {"use_listings_cache": False}
    if is_s3(url):
        # Named although botocore would find it by itself: fsspec shares filesystems of equal
        # arguments, and two endpoints must differ.
        options["endpoint_url"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get(
            "AWS_ENDPOINT_URL"
        )
        from ausl_dist.shards.s3_answers import BoundedSession

        options["config_kwargs"] = s3_client_options() | {"http_session_cls": BoundedSession}
    try:
        filesystem, root = fsspec.core.url_to_fs(str(url), **options)
    except ImportError as error:
        raise ValueError(f"{url}: {error}") from error
    if is_s3(url):
        filesystem.retries = 1
    return filesystem, root.rstrip("/")


def s3_client_options() -> dict[str, Any]:
    """How every client of S3 behaves; a dict of its own for each, because botocore writes into
    it.
    """
    return {
        "retries": {"total_max_attempts": 1},  # see retry.py
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
        "max_pool_connections": MAX_CONNECTIONS,
    }


def is_s3(url: str) -> bool:
    """Whether `url` lies in an S3 store."""
    return urlsplit(str(url)).scheme in S3_SCHEMES


def join(url: str, name: str) -> str:
    """The URL of a file `name` under `url`."""
    return f"{str(url).rstrip('/')}/{name}"


def exists(url: str) -> bool:
    """Whether there is a file at `url`; a store that cannot be asked is an error, not a no."""
    filesystem, path = connect(url)

    def look(seconds_left: float) -> bool:
        with _errors(url):
            try:
                _call(filesystem, "info", path, timeout_seconds=seconds_left)
            except FileNotFoundError:
                return False
            return True

    return Retry().call(look)


def check_bucket(url: str, retry: Retry | None = None) -> None:
    """Raise FileNotFoundError where `url` lies in an S3 bucket that does not exist.

    To be asked before the work: some stores make the bucket of a mistyped name at the first
    write. Keys that may not ask about a bucket are left to what the work itself is refused.
    """
    if not is_s3(url):
        return
    filesystem, path = connect(url)
    bucket = path.split("/", 1)[0]

    def look(seconds_left: float) -> bool:
        with _errors(f"s3://{bucket}"):
            try:
                _call(
                    filesystem,
                    "call_s3",
                    "head_bucket",
                    Bucket=bucket,
                    timeout_seconds=seconds_left,
                )
            except FileNotFoundError:
                return False
            except PermissionError:
                return True
            return True

    if not (retry or Retry()).call(look):
        raise FileNotFoundError(
            f"{url}: there is no bucket {bucket}, and none is made: check the name and "
            f"AWS_ENDPOINT_URL, or make it, for instance by `aws s3 mb s3://{bucket}`"
        )


def read_bytes(url: str, max_bytes: int, retry: Retry | None = None) -> bytes:
    """The whole file at `url`; ValueError when it is larger than `max_bytes`."""
    retry = retry or Retry()
    size = size_of(url, retry)
    if size > max_bytes:
        raise ValueError(f"{url} has {size} bytes, expected at most {max_bytes}")
    filesystem, path = connect(url)
    data = bytearray()
    while len(data) < size:
        start, end = len(data), min(len(data) + PIECE_BYTES, size)

        def read(seconds_left: float, start: int = start, end: int = end) -> bytes:
            return read_range(filesystem, path, start, end, seconds_left)

        data += retry.call(read)
    return bytes(data)


def read_range(
    filesystem: AbstractFileSystem, path: str, start: int, end: int, timeout_seconds: float
) -> bytes:
    """Bytes [start, end) of a file, all of them or OSError.

    One attempt, for use inside `Retry.call`.
    """
    return whole_range(
        path,
        start,
        end,
        lambda: _call(
            filesystem, "cat_file", path, start=start, end=end, timeout_seconds=timeout_seconds
        ),
    )


def whole_range(path: str, start: int, end: int, read: Callable[[], bytes]) -> bytes:
    """What `read` gives, held to what every read of a range is: whole, and with errors that
    name object and bytes.
    """
    what = f"{path} bytes {start}-{end - 1}"
    with _errors(what):
        data = read()
    if len(data) < end - start:  # a short body is not an error to any layer below
        raise OSError(f"{what}: only {len(data)} of {end - start} bytes came")
    if len(data) > end - start:
        raise OSError(f"{what}: {len(data)} bytes came, so the server does not read ranges")
    return bytes(data)


def write_bytes(url: str, data: bytes) -> None:
    """Write the file at `url` whole or not at all, replacing an older one."""
    filesystem, path = connect(url)
    if _is_local(filesystem):
        write_atomically(path, data)
        return

    def write(seconds_left: float) -> None:
        with _errors(url):
            # an object store shows an object only once it is complete
            limit = _write_seconds(seconds_left, len(data))
            _call(filesystem, "pipe_file", path, data, timeout_seconds=limit)

    Retry().call(write)


def upload(local_path: Path | str, url: str) -> None:
    """Copy a local file to `url`, whole or not at all; OSError when the copy has another size."""
    filesystem, path = connect(url)
    size = os.path.getsize(local_path)
    if _is_local(filesystem):
        _copy_atomically(Path(local_path), Path(path))
        return

    def put(seconds_left: float) -> None:
        with _errors(url):
            limit = _write_seconds(seconds_left, size)
            _call(filesystem, "put_file", os.fspath(local_path), path, timeout_seconds=limit)
            found = _call(filesystem, "info", path, timeout_seconds=seconds_left)["size"]
        if found != size:
            raise OSError(f"{url} has {found} bytes after the upload of {size}")

    Retry().call(put)


def size_of(url: str, retry: Retry | None = None) -> int:
    """Bytes of the file at `url`."""
    filesystem, path = connect(url)

    def look(seconds_left: float) -> int:
        with _errors(url):
            size = _call(filesystem, "info", path, timeout_seconds=seconds_left)["size"]
        if size is None:
            raise ValueError(f"{url}: the server does not say how large it is")
        return int(size)

    return (retry or Retry()).call(look)


def remove_folder(url: str) -> None:
    """Remove everything under `url`."""
    filesystem, path = connect(url)

    def remove(seconds_left: float) -> None:
        with _errors(url):
            _call(filesystem, "rm", path, recursive=True, timeout_seconds=seconds_left)

    Retry().call(remove)


def local_path(url: str) -> Path | None:
    """The path of `url` where it lies on this machine's own filesystem, else None."""
    filesystem, path = connect(url)
    return Path(path) if _is_local(filesystem) else None


def _call(
    filesystem: AbstractFileSystem,
    verb: str,
    *arguments: Any,
    timeout_seconds: float,
    **named: Any,
) -> Any:
    """Call a verb of a filesystem, for at most as long where it is one that can be interrupted.

    One attempt takes half of the time that is left: an answer that trickles must leave time for
    another.
    """
    if not filesystem.async_impl:
        return getattr(filesystem, verb)(*arguments, **named)
    limit = max(timeout_seconds / 2, 0.1)
    try:
        return sync(
            filesystem.loop, getattr(filesystem, f"_{verb}"), *arguments, timeout=limit, **named
        )
    except FSTimeoutError as error:
        raise TimeoutError(f"not done within {limit:.1f} s") from error


def _write_seconds(seconds_left: float, size: int) -> float:
    """A large object may take longer than reads are repeated for."""
    return max(seconds_left, 2 * size / MIN_BYTES_PER_SECOND)


def _is_local(filesystem: AbstractFileSystem) -> bool:
    return _protocol(filesystem) == "file"


def _protocol(filesystem: AbstractFileSystem) -> str:
    return (
        filesystem.protocol
        if isinstance(filesystem.protocol, str)
        else str(filesystem.protocol[0])
    )


def _copy_atomically(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        with naming(target), open(source, "rb") as reader, open(temporary, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """Whatever a filesystem raises becomes an OSError that names the object; one that no
    repetition cures is marked Permanent.
    """
    try:
        yield
    except _MISTAKES:
        raise
    except _FINAL as error:
        if _is_a_failed_request(error.__cause__):
            raise OSError(f"{what}: {error.__cause__!r}") from error
        raise Permanent(_final(error, what)) from error
    # each fsspec back end has exceptions of its own, most of them no OSErrors
    except Exception as error:
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            advice = (
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "and AWS_ENDPOINT_URL for a store other than AWS"
            )
            raise Permanent(
                PermissionError(f"{what}: no credentials were found; {advice}")
            ) from error
        raise OSError(f"{what}: {type(error).__name__}: {error}") from error


def _is_a_failed_request(cause: BaseException | None) -> bool:
    """Whether fsspec's HTTP called it an absent file that a server did not answer, or answered
    by an error.
    """
    is_http = type(cause).__module__.startswith("aiohttp")
    return is_http and getattr(cause, "status", None) not in NOT_FOUND_STATUSES


def _final(error: OSError, what: str) -> OSError:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(
            f"{what}: there is no such file; check the address, and AWS_ENDPOINT_URL where it is "
            "s3://"
        )
    if isinstance(error, PermissionError):
        return PermissionError(
            f"{what}: access refused ({error}); check that the credentials are right and have not "
            "expired"
        )
    return type(error)(f"{what}: {error}")

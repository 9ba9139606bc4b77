"""Files at a URL: a path, s3://bucket/prefix, or whatever else fsspec knows. With `s3.py` the only
file that knows of storage services.

Credentials come from the standard places alone (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_ENDPOINT_URL, ~/.aws, instance roles) and appear in no URL, log or error. Every failure is
raised as an OSError or ValueError that names the object.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import sync

from ausl_dist.files import temporary_beside, write_atomically
from ausl_dist.shards.retry import Permanent, Retry

S3_SCHEMES = ("s3", "s3a")
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 15  # without a single byte
MAX_CONNECTIONS = 64

# Errors of the caller or of the code: they are raised as they are, and no repetition cures them.
_MISTAKES = (TypeError, AttributeError, AssertionError, NotImplementedError)
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def connect(url: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem that serves `url`, and the path of `url` in it; to be called in the process
    that uses it (not before a fork).
    """
    scheme = urlsplit(str(url)).scheme
    if "@" in urlsplit(str(url)).netloc:
        raise ValueError(
            "credentials do not belong in an address: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY instead"
        )
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in S3_SCHEMES:
        # Named although botocore would find it by itself: fsspec shares filesystems of equal
        # arguments, and two endpoints must differ.
        options["endpoint_url"] = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get(
            "AWS_ENDPOINT_URL"
        )
        options["config_kwargs"] = s3_client_options()
    try:
        filesystem, root = fsspec.core.url_to_fs(str(url), **options)
    except ImportError as error:
        raise ValueError(f"{url}: {error}") from error
    if scheme in S3_SCHEMES:
        filesystem.retries = 1
    return filesystem, root.rstrip("/")


def s3_client_options() -> dict[str, Any]:
    """How every client of S3 behaves; a dict of its own for each, because botocore writes into it."""
    return {
        "retries": {"total_max_attempts": 1},  # see retry.py
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
        "max_pool_connections": MAX_CONNECTIONS,
    }


def join(url: str, name: str) -> str:
    """The URL of a file `name` under `url`."""
    return f"{str(url).rstrip('/')}/{name}"


def exists(url: str) -> bool:
    """Whether there is a file at `url`; a store that cannot be asked is an error, not a no."""
    filesystem, path = connect(url)

    def look(seconds_left: float) -> bool:
        with _errors(url):
            try:
                filesystem.info(path)
            except FileNotFoundError:
                return False
            return True

    return Retry().call(look)


def read_bytes(url: str, max_bytes: int) -> bytes:
    """The whole file at `url`; ValueError when it is larger than `max_bytes`."""
    filesystem, path = connect(url)

    def read(seconds_left: float) -> bytes:
        with _errors(url):
            size = int(filesystem.info(path)["size"])
        if size > max_bytes:
            raise ValueError(f"{url} has {size} bytes, expected at most {max_bytes}")
        return read_range(filesystem, path, 0, size, seconds_left) if size else b""

    return Retry().call(read)


def read_range(
    filesystem: AbstractFileSystem, path: str, start: int, end: int, timeout_seconds: float
) -> bytes:
    """Bytes [start, end) of a file, all of them or OSError.

    One attempt, for use inside `Retry.call`.
    """
    what = f"{path} bytes {start}-{end - 1}"
    with _errors(what):
        if _protocol(filesystem) in S3_SCHEMES:
            from ausl_dist.shards import s3

            data = s3.read_range(filesystem, path, start, end, timeout_seconds)
        elif filesystem.async_impl:
            data = sync(
                filesystem.loop,
                filesystem._cat_file,
                path,
                start=start,
                end=end,
                timeout=timeout_seconds,
            )
        else:
            data = filesystem.cat_file(path, start=start, end=end)
    if len(data) != end - start:  # a short body is not an error to any layer below
        raise OSError(f"{what}: only {len(data)} of {end - start} bytes came")
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
            filesystem.pipe_file(path, data)

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
            filesystem.put_file(os.fspath(local_path), path)
            found = filesystem.info(path)["size"]
        if found != size:
            raise OSError(f"{url} has {found} bytes after the upload of {size}")

    Retry().call(put)


def size_of(url: str) -> int:
    """Bytes of the file at `url`."""
    filesystem, path = connect(url)

    def look(seconds_left: float) -> int:
        with _errors(url):
            return int(filesystem.info(path)["size"])

    return Retry().call(look)


def remove_folder(url: str) -> None:
    """Remove everything under `url`."""
    filesystem, path = connect(url)

    def remove(seconds_left: float) -> None:
        with _errors(url):
            filesystem.rm(path, recursive=True)

    Retry().call(remove)


def local_path(url: str) -> Path | None:
    """The path of `url` where it lies on this machine's own filesystem, else None."""
    filesystem, path = connect(url)
    return Path(path) if _is_local(filesystem) else None


def _is_local(filesystem: AbstractFileSystem) -> bool:
    return _protocol(filesystem) == "file"


def _protocol(filesystem: AbstractFileSystem) -> str:
    return (
        filesystem.protocol if isinstance(filesystem.protocol, str) else str(filesystem.protocol[0])
    )


def _copy_atomically(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        with open(source, "rb") as reader, open(temporary, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """Whatever a filesystem raises becomes an OSError that names the object; one that no repetition
    cures is marked Permanent.
    """
    try:
        yield
    except _MISTAKES:
        raise
    except _FINAL as error:
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

"""The bytes of a source come to a local disk, from wherever it lies.

path | URL | place in a shard or table ──▶ bring ──▶ a video file, or a folder of numbered images
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ausl_dist.corpus import raw_tar, table_rows, video_table
from ausl_dist.faces.decode import Unreadable, frame_number
from ausl_dist.files import naming
from ausl_dist.shards import storage
from ausl_dist.shards.retry import Retry
from ausl_dist.tables import has_system_part

FETCH_BYTES = 8 << 20
WEB = ("http://", "https://")


def reader_of(location: str) -> tuple[raw_tar.ReadAt, int]:
    """How to read a file at any place, and its size."""
    filesystem, path = storage.connect(location)
    size = storage.size_of(location)

    def read_at(start: int, end: int) -> bytes:
        if start >= end:
            return b""
        return Retry().call(
            lambda seconds: storage.read_range(filesystem, path, start, end, seconds)
        )

    return read_at, size


def list_files(url: str) -> list[str]:
    """Names of all files below a URL, sorted, but for what a system left there; [""] for the
    URL of a file.

    FileNotFoundError when there is nothing.
    """
    filesystem, root = storage.connect(url)
    try:
        files = sorted(filesystem.find(root))
    except Exception as error:
        raise OSError(f"{url} cannot be listed: {type(error).__name__}: {error}") from error
    if not files:
        raise FileNotFoundError(f"{url} holds nothing")
    names = [file.removeprefix(root).lstrip("/") for file in files]
    return [name for name in names if not has_system_part(name)]


def fetch(url: str) -> Iterator[bytes]:
    """The content of a source in an object store or on the web, in pieces; OSError when it
    cannot be had whole, Unreadable when the web has it no longer.
    """
    filesystem, path = storage.connect(url)
    try:
        size = int(filesystem.info(path)["size"])
    except FileNotFoundError as error:
        if url.startswith(WEB):
            raise Unreadable("unreadable", f"{url} is not there") from error
        raise OSError(f"{url} cannot be read: it is not there") from error
    except Exception as error:
        raise OSError(f"{url} cannot be read: {type(error).__name__}: {error}") from error
    for start in range(0, size, FETCH_BYTES):
        end = min(start + FETCH_BYTES, size)
        yield Retry().call(
            lambda seconds, start=start, end=end: storage.read_range(  # type: ignore[misc]
                filesystem, path, start, end, seconds
            )
        )


def bring(location: str, folder: Path, on_bytes: Callable[[int], object]) -> Path:
    """A local path of a source: its own, or that of a copy in `folder` of what lies in an
    object store. `on_bytes` hears of each piece.
    """
    if raw_tar.is_in_tar(location):
        tar, start, end = raw_tar.tar_of(location)
        return raw_tar.extract(reader_of(tar)[0], start, end, folder, on_bytes)
    if table_rows.is_in_table(location):
        place = table_rows.place_of(location)
        found = video_table.extract(place, *reader_of(place.table), folder, on_bytes)
        return found if isinstance(found, Path) else bring(found, folder, on_bytes)
    if "://" not in location:
        return Path(location)
    copy = folder / (
        "frames" if location.endswith("/") else "source" + PurePosixPath(location).suffix
    )
    copies = {location: copy}
    if location.endswith("/"):
        copy.mkdir()
        images = [
            name
            for name in list_files(location)
            if "/" not in name and frame_number(name) is not None
        ]
        copies = {storage.join(location, name): copy / name for name in images}
    for url, path in copies.items():
        with naming(path), open(path, "wb") as file:
            for piece in fetch(url):
                file.write(piece)
                on_bytes(len(piece))
    return copy


@contextmanager
def local_copy(url: str, name: str) -> Iterator[Path]:
    """A path on this machine of the file `name` at `url`: the file itself, or a copy that goes
    again.
    """
    address = storage.join(url, name)
    path = storage.local_path(address)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ausl-copy-") as folder:
        copy = Path(folder) / PurePosixPath(name).name
        with naming(copy), open(copy, "wb") as file:
            for piece in fetch(address):
                file.write(piece)
        yield copy

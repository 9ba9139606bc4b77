"""What the user names becomes a sorted list of sources, each with a name that lasts.

    folder | file | glob | list file | shards | s3://bucket/prefix
        ──▶ Source (name, location, identity, licence), …

A folder is searched for video files by their suffix, for folders of numbered images and for
WebDataset shards of either; what it holds besides is counted, so that nobody wonders. Files
that are named themselves are taken whatever they are called: FFmpeg looks at the content.
"""

import glob
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ausl_dist.corpus import raw_tar
from ausl_dist.corpus.label_table import SOURCE_COLUMNS
from ausl_dist.corpus.layouts import Layout
from ausl_dist.corpus.names import Names
from ausl_dist.corpus.suffixes import LIST_SUFFIXES, SHARD_SUFFIX, VIDEO_SUFFIXES
from ausl_dist.faces.decode import frame_number
from ausl_dist.shards import storage
from ausl_dist.shards.retry import Retry
from ausl_dist.shards.tar import TarError
from ausl_dist.tables import Row, has_system_part, is_system_file, read_rows

FETCH_BYTES = 8 << 20
TABLE_COLUMNS = {
    "file": SOURCE_COLUMNS,
    "identity": ("identity", "subject", "speaker"),
    "licence": ("licence", "license"),
}
MAX_TEXT = 1024  # characters of a name, an identity, a licence: what the clip record holds


@dataclass(frozen=True, order=True)
class Source:
    """One video, or one folder of numbered images."""

    name: str  # in the corpus: the path below the input, or what the layout makes of it
    location: str  # path or URL; that of a folder in an object store ends in a slash
    identity: str | None = None  # who is seen, where that is known
    licence: str = "unknown"
    about: tuple[tuple[str, str], ...] = ()  # class, caption, …, where it comes from a shard


class Found(NamedTuple):
    """What one input names, before the layout is asked."""

    name: str  # path below the input
    location: str
    shard: str = ""  # the tar it lies in, below the input, without suffix
    about: tuple[tuple[str, str], ...] = ()


@dataclass
class Collection:
    """What an input came to."""

    sources: list[Source]  # by name
    # files in folders that are no video, by suffix
    passed_over: Counter[str] = field(default_factory=Counter)


def collect(
    inputs: Sequence[str],
    layout: Layout,
    *,
    licence: str | None = None,
    table: Path | None = None,
    identity_field: str | None = None,
) -> Collection:
    """List the sources of all inputs; ValueError or FileNotFoundError with what to type instead
    where there is none.

    `licence` replaces the layout's; `table` is a CSV file with the columns file, identity and
    licence (either may be missing), where `file` means a source as in `names.py`, and replaces
    both for the sources it lists; `identity_field` is what shards of raw video call the person
    (class, or a field of their JSON).
    """
    passed_over: Counter[str] = Counter()
    found: dict[str, Source] = {}
    misfits = []
    expanded = [item for text in inputs for item in _expand(text, passed_over)]
    for item in _distinct(expanded):
        try:
            # A name that is not UTF-8 is written with escapes, as \xe9: the corpus is UTF-8.
            plain = os.fsencode(item.name).decode("utf-8", "backslashreplace")
            identity, name = layout.read(plain)
        except ValueError as error:
            misfits.append(str(error))
            continue
        if identity_field is not None:
            identity = dict(item.about).get(identity_field) or identity
        terms = licence or layout.licence
        source = Source(name, item.location, identity, terms, item.about)
        if found.setdefault(name, source).location != item.location:
            raise ValueError(
                f"{found[name].location} and {item.location} would both be called {name!r}: "
                "name the folder above them instead"
            )
    if misfits:
        raise ValueError(
            f"{len(misfits)} of {len(misfits) + len(found)} sources: {misfits[0]}. "
            "Or use --layout plain"
        )
    if not found:
        others = ", ".join(
            f"{count} {suffix or 'without suffix'}"
            for suffix, count in passed_over.most_common(5)
        )
        raise ValueError(
            f"no video in {', '.join(inputs)}" + (f" (other files: {others})" if others else "")
        )
    sources = sorted(found.values())
    if table is not None:
        sources = _with_table(sources, table)
    return Collection(sorted(_checked(source) for source in sources), passed_over)


def _distinct(items: list[Found]) -> Iterator[Found]:
    """Keys that several shards use get the name of their shard in front."""
    counts = Counter(item.name for item in items)
    for item in items:
        twice = item.shard and counts[item.name] > 1
        yield item._replace(name=f"{item.shard}/{item.name}") if twice else item


def _expand(text: str, passed_over: Counter[str]) -> Iterator[Found]:
    """Every source that one input names."""
    path = Path(text)
    if "://" in text:
        yield from _expand_url(text, passed_over)
    elif path.is_dir():
        yield from _expand_folder(path, passed_over)
    elif path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        yield from _expand_list(path, passed_over)
    elif path.is_file():
        yield from _file(path.name, text, passed_over)
    elif glob.has_magic(text):
        found = sorted(glob.glob(text, recursive=True))
        matches = [match for match in found if not is_system_file(os.path.basename(match))]
        if not matches:
            raise FileNotFoundError(f"{text} matches nothing")
        base = os.path.commonpath([os.path.dirname(match) or "." for match in matches])
        for match in matches:
            below = Path(os.path.relpath(match, base)).as_posix()
            if not os.path.isdir(match):
                yield from _file(below, match, passed_over)
                continue
            for item in _expand_folder(Path(match), passed_over):
                # A folder of frames is a source itself.
                yield (
                    item._replace(name=below) if item.location == match else _under(below, item)
                )
    else:
        raise FileNotFoundError(f"{text} does not exist")


def _expand_folder(folder: Path, passed_over: Counter[str]) -> Iterator[Found]:
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not is_system_file(name))
        files = [name for name in files if not is_system_file(name)]
        here = Path(place)
        if _is_frame_folder(files):
            name = (
                here.relative_to(folder).as_posix() if here != folder else here.resolve().name
            )
            yield Found(name, str(here))
            continue
        for file in sorted(files):
            name = (here / file).relative_to(folder).as_posix()
            yield from _file(name, str(here / file), passed_over, known=VIDEO_SUFFIXES)


def _expand_list(path: Path, passed_over: Counter[str]) -> Iterator[Found]:
    for number, line in enumerate(
        path.read_text(encoding="utf-8", errors="replace").splitlines()
    ):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        entry = text if "://" in text or os.path.isabs(text) else str(path.parent / text)
        if "://" not in entry and not os.path.exists(entry):
            raise FileNotFoundError(f"{path} line {number + 1}: {text} does not exist")
        for item in _expand(entry, passed_over):
            # A list names its entries; a folder in it keeps its name in front.
            if os.path.isdir(entry):
                yield _under(text.strip("/"), item)
            elif item.shard:
                yield item
            else:
                yield item._replace(name=text.split("://")[-1].lstrip("/"))


def _expand_url(url: str, passed_over: Counter[str]) -> Iterator[Found]:
    names = list_files(url)
    if names == [""]:  # the URL of a file
        yield from _file(PurePosixPath(url).name, url, passed_over)
        return
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, files in folders.items():
        if _is_frame_folder(files):
            place = storage.join(url, folder) if folder else url.rstrip("/")
            yield Found(folder or PurePosixPath(url).name, f"{place}/")
            continue
        for name in files:
            yield from _file(name, storage.join(url, name), passed_over, known=VIDEO_SUFFIXES)


def _file(
    name: str,
    location: str,
    passed_over: Counter[str],
    known: Container[str] | None = None,
) -> Iterator[Found]:
    """One file: a shard's samples, or itself; passed over where its suffix is none of the
    `known`.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == SHARD_SUFFIX:
        shard = name.removesuffix(PurePosixPath(name).suffix)
        try:
            for sample in raw_tar.list_samples(*open_tar(location)):
                about = tuple(sorted(sample.about.items()))
                yield Found(sample.name, raw_tar.location_of(location, sample), shard, about)
        except TarError as error:
            raise ValueError(f"{location}: {error}") from error
    elif known is None or suffix in known:
        yield Found(name, location)
    else:
        passed_over[suffix] += 1


def _under(folder: str, item: Found) -> Found:
    if item.shard:
        return item._replace(shard=f"{folder}/{item.shard}")
    return item._replace(name=f"{folder}/{item.name}")


def open_tar(location: str) -> tuple[raw_tar.ReadAt, int]:
    """How to read a tar at any place, and its size."""
    filesystem, path = storage.connect(location)
    size = storage.size_of(location)

    def read_at(start: int, end: int) -> bytes:
        if start >= end:
            return b""
        return Retry().call(
            lambda seconds: storage.read_range(filesystem, path, start, end, seconds)
        )

    return read_at, size


def _is_frame_folder(files: Sequence[str]) -> bool:
    """Whether the files of one folder are the frames of a video."""
    return sum(frame_number(file) is not None for file in files) > 1 and not any(
        PurePosixPath(file).suffix.lower() in VIDEO_SUFFIXES for file in files
    )


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
    """The content of a source in an object store, in pieces; OSError when it cannot be had
    whole.
    """
    filesystem, path = storage.connect(url)
    try:
        size = int(filesystem.info(path)["size"])
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
        return raw_tar.extract(open_tar(tar)[0], start, end, folder, on_bytes)
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
        with open(path, "wb") as file:
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
        with open(copy, "wb") as file:
            for piece in fetch(address):
                file.write(piece)
        yield copy


def _with_table(sources: list[Source], path: Path) -> list[Source]:
    """The sources with what a table of identities and licences says of them."""
    names = Names(source.name for source in sources)
    known = dict[str, dict[str, str]]()
    rows = read_rows(path)
    columns = _table_columns(path, next(rows, None))
    for row in rows:
        where = f"{path} line {row.line}"
        if len(row.cells) <= max(columns.values()):
            raise ValueError(f"{where} has {len(row.cells)} fields: too few")
        values = {what: row.cells[at] for what, at in columns.items()}
        found = names.find(values["file"])
        if len(found) > 1:
            raise ValueError(
                f"{where}: {values['file']!r} may mean {found[0]} or {found[1]}: write the path"
            )
        if found and known.setdefault(found[0], values) != values:
            raise ValueError(f"{where}: {found[0]} stands twice, with other values")
    if not known:
        raise ValueError(f"{path}: not one of its files is a source, such as {sources[0].name}")
    return [
        replace(
            source,
            identity=known[source.name].get("identity") or source.identity,
            licence=known[source.name].get("licence") or source.licence,
        )
        if source.name in known
        else source
        for source in sources
    ]


def _table_columns(path: Path, header: Row | None) -> dict[str, int]:
    """Where file, identity and licence stand, under whatever case and usual name."""
    cells = [cell.lower() for cell in header.cells] if header is not None else []
    columns = dict[str, int]()
    for what, called in TABLE_COLUMNS.items():
        places = [at for at, cell in enumerate(cells) if cell in called]
        if len(places) > 1:
            raise ValueError(f"{path}: the columns {[cells[at] for at in places]} are the same")
        if places:
            columns[what] = places[0]
    if "file" not in columns or len(columns) < 2:
        raise ValueError(
            f"{path}: the first line must name the columns file, identity, licence; "
            f"it is {str(cells)[:200]}"
        )
    return columns


def _checked(source: Source) -> Source:
    for what in ("name", "identity", "licence"):
        if len(getattr(source, what) or "") > MAX_TEXT:
            raise ValueError(
                f"{source.location}: its {what} has more than {MAX_TEXT} characters"
            )
    return source

"""What the user names becomes a sorted list of sources, each with a name that lasts.

    folder | file | glob | list file | shards | tables | s3://bucket/prefix
        ──▶ Source (name, location, identity, licence), …

A folder is searched for video files by their suffix, for folders of numbered images, for
WebDataset shards of either and for Parquet files of videos; what it holds besides is counted,
so that nobody wonders. Files that are named themselves are taken whatever they are called:
FFmpeg looks at the content.
"""

import glob
import os
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from ausl_dist.corpus import raw_tar, video_table
from ausl_dist.corpus.bring import list_files, reader_of
from ausl_dist.corpus.label_table import SOURCE_COLUMNS
from ausl_dist.corpus.layouts import Layout
from ausl_dist.corpus.names import Names
from ausl_dist.corpus.suffixes import (
    LIST_SUFFIXES,
    SHARD_SUFFIX,
    TABLE_SUFFIXES,
    VIDEO_SUFFIXES,
)
from ausl_dist.faces.decode import frame_number
from ausl_dist.shards import storage
from ausl_dist.shards.tar import TarError
from ausl_dist.tables import Row, is_system_file, read_lines, read_rows

TABLE_COLUMNS = {
    "file": SOURCE_COLUMNS,
    "identity": ("identity", "subject", "speaker"),
    "licence": ("licence", "license"),
}
MAX_LIST_BYTES, MAX_LIST_LINES = 1 << 30, 1 << 24
MAX_TEXT = 1024  # characters of a name, an identity, a licence: what the clip record holds


@dataclass(frozen=True, order=True)
class Source:
    """One video, or one folder of numbered images."""

    name: str  # in the corpus: the path below the input, or what the layout makes of it
    location: str  # path or URL; that of a folder in an object store ends in a slash
    identity: str | None = None  # who is seen, where that is known
    licence: str = "unknown"
    # class, caption, …, where it comes from a shard or a table
    about: tuple[tuple[str, str], ...] = ()


class Found(NamedTuple):
    """What one input names, before the layout is asked."""

    name: str  # path below the input
    location: str
    shard: str = ""  # the tar or table it lies in, below the input, without suffix
    about: tuple[tuple[str, str], ...] = ()


@dataclass
class _Walk:
    """What is known of all inputs."""

    passed_over: Counter[str]
    video_column: str | None


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
    video_column: str | None = None,
) -> Collection:
    """List the sources of all inputs; ValueError or FileNotFoundError with what to type instead
    where there is none.

    `licence` replaces the layout's; `table` is a CSV file with the columns file, identity and
    licence (either may be missing), where `file` means a source as in `names.py`, and replaces
    both for the sources it lists; `identity_field` is what shards of raw video call the person
    (class, or a field of their JSON), or the column of a Parquet file that does; `video_column`
    is its column of videos, where that cannot be told.
    """
    passed_over: Counter[str] = Counter()
    found: dict[str, Source] = {}
    misfits = []
    walk = _Walk(passed_over, video_column)
    expanded = [item for text in inputs for item in _expand(text, walk)]
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
    for url in {urlsplit(one.location).scheme: one.location for one in sources}.values():
        storage.connect(url)  # a scheme that nothing here reads is said before the work
    if table is not None:
        sources = _with_table(sources, table)
    return Collection(sorted(_checked(source) for source in sources), passed_over)


def _distinct(items: list[Found]) -> Iterator[Found]:
    """Keys that several shards use get the name of their shard in front."""
    counts = Counter(item.name for item in items)
    for item in items:
        twice = item.shard and counts[item.name] > 1
        yield item._replace(name=f"{item.shard}/{item.name}") if twice else item


def _expand(text: str, walk: _Walk) -> Iterator[Found]:
    """Every source that one input names."""
    path = Path(text)
    if "://" in text:
        yield from _expand_url(text, walk)
    elif path.is_dir():
        yield from _expand_folder(path, walk)
    elif path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        yield from _expand_list(path, walk)
    elif path.is_file():
        yield from _file(path.name, text, walk)
    elif glob.has_magic(text):
        found = sorted(glob.glob(text, recursive=True))
        matches = [match for match in found if not is_system_file(os.path.basename(match))]
        if not matches:
            raise FileNotFoundError(f"{text} matches nothing")
        base = os.path.commonpath([os.path.dirname(match) or "." for match in matches])
        for match in matches:
            below = Path(os.path.relpath(match, base)).as_posix()
            if not os.path.isdir(match):
                yield from _file(below, match, walk)
                continue
            for item in _expand_folder(Path(match), walk):
                # A folder of frames is a source itself.
                yield (
                    item._replace(name=below) if item.location == match else _under(below, item)
                )
    else:
        raise FileNotFoundError(f"{text} does not exist")


def _expand_folder(folder: Path, walk: _Walk) -> Iterator[Found]:
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
            yield from _file(name, str(here / file), walk, known=VIDEO_SUFFIXES)


def _expand_list(path: Path, walk: _Walk) -> Iterator[Found]:
    for number, text in read_lines(path, max_bytes=MAX_LIST_BYTES, max_rows=MAX_LIST_LINES):
        if text.startswith("#"):
            continue
        entry = text if "://" in text or os.path.isabs(text) else str(path.parent / text)
        if "://" not in entry and not os.path.exists(entry):
            raise FileNotFoundError(f"{path} line {number}: {text} does not exist")
        for item in _expand(entry, walk):
            # A list names its entries; a folder in it keeps its name in front.
            if os.path.isdir(entry):
                yield _under(text.strip("/"), item)
            elif item.shard:
                yield item
            else:
                yield item._replace(name=text.split("://")[-1].lstrip("/"))


def _expand_url(url: str, walk: _Walk) -> Iterator[Found]:
    names = list_files(url)
    if names == [""]:  # the URL of a file
        yield from _file(PurePosixPath(url).name, url, walk)
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
            yield from _file(name, storage.join(url, name), walk, known=VIDEO_SUFFIXES)


def _file(
    name: str,
    location: str,
    walk: _Walk,
    known: Container[str] | None = None,
) -> Iterator[Found]:
    """One file: a shard's samples, or itself; passed over where its suffix is none of the
    `known`.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == SHARD_SUFFIX:
        shard = name.removesuffix(PurePosixPath(name).suffix)
        try:
            for sample in raw_tar.list_samples(*reader_of(location)):
                about = tuple(sorted(sample.about.items()))
                yield Found(sample.name, raw_tar.location_of(location, sample), shard, about)
        except TarError as error:
            raise ValueError(f"{location}: {error}") from error
    elif suffix in TABLE_SUFFIXES:
        yield from _table(name, location, walk, is_named=known is None)
    elif known is None or suffix in known:
        yield Found(name, location)
    else:
        walk.passed_over[suffix] += 1


def _table(name: str, location: str, walk: _Walk, is_named: bool) -> Iterator[Found]:
    """The videos of a Parquet file; one without any is passed over in a folder."""
    suffix = PurePosixPath(name).suffix
    try:
        for video in video_table.list_videos(location, *reader_of(location), walk.video_column):
            about = tuple(sorted(video.about.items()))
            yield Found(video.name, video.location, name.removesuffix(suffix), about)
    except video_table.NoVideos:
        if is_named or walk.video_column is not None:
            raise
        walk.passed_over[suffix.lower()] += 1


def _under(folder: str, item: Found) -> Found:
    if item.shard:
        return item._replace(shard=f"{folder}/{item.shard}")
    return item._replace(name=f"{folder}/{item.name}")


def _is_frame_folder(files: Sequence[str]) -> bool:
    """Whether the files of one folder are the frames of a video."""
    return sum(frame_number(file) is not None for file in files) > 1 and not any(
        PurePosixPath(file).suffix.lower() in VIDEO_SUFFIXES for file in files
    )


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

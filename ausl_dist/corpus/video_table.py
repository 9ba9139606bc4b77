"""Parquet files and Hugging Face data sets of videos, read as sources without unpacking them.

    train-00000-of-00002.parquet (data-00000-of-00002.arrow, as save_to_disk writes them)
        video {bytes, path} | bytes | path or URL    ──▶ TableVideo "sub/vid0.mp4", its place in the table
        speaker, emotion, caption, …                 ──▶ about: speaker, emotion, caption, …

Listing reads the small columns alone; `extract` brings one video to a local disk. How rows are
read stands in `table_rows.py`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ausl_dist.corpus.raw_tar import MAX_NOTE_CHARACTERS, MAX_NOTES, ReadAt
from ausl_dist.corpus.suffixes import VIDEO_SUFFIXES
from ausl_dist.corpus.table_rows import RowPlace, StoreFailed, Table, open_table, read_cell
from ausl_dist.faces.decode import Unreadable
from ausl_dist.packages import require
from ausl_dist.shards import storage

NOTE_ROWS = 64  # of the small columns, at a time
# What columns are called that hold videos, that say where a video lies, and that name it.
VIDEO_COLUMNS = ("video", "mp4", "webm", "mkv", "mov", "avi", "video_bytes", "bytes", "content")
PATH_COLUMNS = (
    *("path", "video_path", "file_path", "filepath", "file", "file_name", "filename"),
    *("url", "video_url"),
)
NAME_COLUMNS = ("__key__", "file_name", "filename", "video_id", "key", "name", "id")


class NoVideos(ValueError):
    """A table that has no column of videos."""


@dataclass
class TableVideo:
    """One row of a table."""

    name: str  # what the row calls it, else its number
    location: str  # its place in the table, or the path or URL that the row names
    about: dict[str, str] = field(default_factory=dict)  # the plain columns: class, caption, …


def list_videos(
    location: str, read_at: ReadAt, size: int, column: str | None = None
) -> Iterator[TableVideo]:
    """The videos of a table, in order, each with another name.

    `column` holds them; where it is None, the one that Hugging Face calls a Video or that is
    named as one. Raises NoVideos where that cannot be told, ValueError for what is no table.
    """
    require("a data set in Parquet or Arrow")
    with _told_apart(lambda error: ValueError(f"{location}: {error}")):
        table = open_table(location, read_at, size)
        column = column_of_videos(table.schema, location, column)
        names: Counter[str] = Counter()
        for group in range(table.groups):
            for video in _group(table, location, group, column):
                names[video.name] += 1
                if names[video.name] > 1:
                    video.name += f"@{names[video.name]}"
                yield video


def extract(
    place: RowPlace, read_at: ReadAt, size: int, folder: Path, on_bytes: Callable[[int], object]
) -> Path | str:
    """Write the video of a row into `folder`, or give the path or URL that the row names
    instead; Unreadable where the row holds neither.
    """
    with _told_apart(lambda error: Unreadable("damaged", f"{place.table}: {error}")):
        value = read_cell(place, read_at, size)
    data, path = _parts(value)
    if data is None:
        if not path:
            raise Unreadable("unreadable", f"row {place.row} holds no video")
        return _address(place.table, path)
    suffix = PurePosixPath(path or "").suffix.lower()
    copy = folder / f"source{suffix if suffix in VIDEO_SUFFIXES else ''}"
    copy.write_bytes(data)
    on_bytes(len(data))
    return copy


@contextmanager
def _told_apart(damage: Callable[[Exception], Exception]) -> Iterator[None]:
    """What Arrow says of a foreign file becomes `damage`; a store that fails stays an OSError."""
    from pyarrow import ArrowException

    try:
        yield
    except StoreFailed as error:
        raise error.error from None
    except (NoVideos, FileNotFoundError):
        raise
    except (ArrowException, ValueError, OSError) as error:
        raise damage(error) from error


def column_of_videos(schema: Any, location: str, wanted: str | None = None) -> str:
    """Which column of an Arrow schema holds the videos."""
    types = {item.name: item.type for item in schema}
    if wanted is not None:
        if wanted not in types or not (_holds_bytes(types[wanted]) or _is_text(types[wanted])):
            raise NoVideos(
                f"{location} has no column {wanted!r} of videos; its columns are "
                f"{', '.join(types)[:300]}"
            )
        return wanted
    features = _features(schema)
    declared = [name for name in types if features.get(name, {}).get("_type") == "Video"]
    others = [
        name
        for name in types
        if _holds_bytes(types[name])
        and features.get(name, {}).get("_type") not in ("Image", "Audio")
    ]
    for found in (
        declared,
        [name for name in VIDEO_COLUMNS if name in others],
        others,
        [name for name in PATH_COLUMNS if name in types and _is_text(types[name])],
    ):
        if len(found) == 1 or (found and found is not declared and found is not others):
            return found[0]
    raise NoVideos(
        f"{location}: which column holds the videos? Give --video-column; its columns are "
        f"{', '.join(types)[:300]}"
    )


def _group(table: Table, location: str, group: int, column: str) -> Iterator[TableVideo]:
    """The rows of one group."""
    features, row = _features(table.schema), 0
    plain = [item.name for item in table.schema if item.name != column and _is_plain(item.type)]
    inside = _holds_bytes(table.schema.field(column).type) and not table.has_no_bytes(
        group, column
    )
    where = f"{location}#{quote(column, safe='')}"
    for batch in table.batches(group, [*plain, *_path_of(table.schema, column)], NOTE_ROWS):
        for values in batch.to_pylist():
            _, path = _parts(values.pop(column, None))
            about = dict(_notes(values, features))
            place = f"{where}:{group}.{row}"
            if not inside and path:
                place = _address(location, path)
                if "://" not in place and not Path(place).exists():
                    raise FileNotFoundError(f"{location} names {place}, which does not exist")
            yield TableVideo(_name(path, values, f"{group:04d}-{row:06d}"), place, about)
            row += 1


def _path_of(schema: Any, column: str) -> list[str]:
    """What to read of the column of videos: where it names its videos, that alone."""
    kind = schema.field(column).type
    if _is_text(kind):
        return [column]
    return [f"{column}.path"] if _has_field(kind, "path") else []


def _name(path: str | None, values: dict[str, Any], otherwise: str) -> str:
    for name in (path, *(values.get(column) for column in NAME_COLUMNS)):
        if name is not None and (text := str(name).strip()):
            text = text.split("://")[-1].replace("\\", "/").lstrip("/")
            return text or otherwise
    return otherwise


def _address(table: str, path: str) -> str:
    """A path that a row names, seen from where its table lies."""
    if "://" in path or Path(path).is_absolute():
        return path
    if "://" in table:
        return storage.join(table.rpartition("/")[0], path)
    return str(Path(table).parent / path)


def _notes(values: dict[str, Any], features: dict[str, Any]) -> Iterator[tuple[str, str]]:
    count = 0
    for name, value in values.items():
        names = features.get(name, {}).get("names")
        if isinstance(value, int) and isinstance(names, list) and 0 <= value < len(names):
            value = names[value]  # a ClassLabel is a number in the file
        for key, item in value.items() if isinstance(value, dict) else ((name, value),):
            if isinstance(item, str | int | float | bool) and count < MAX_NOTES:
                count += 1
                yield key[:64], str(item)[:MAX_NOTE_CHARACTERS]


def _parts(value: Any) -> tuple[bytes | None, str | None]:
    """(bytes or None, path or None) of a cell of the column of videos."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        return data if isinstance(data, bytes) else None, str(path) if path else None
    return (value, None) if isinstance(value, bytes) else (None, value or None)


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's `datasets` wrote of the columns, where it did."""
    try:
        said = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {name: value for name, value in said.items() if isinstance(value, dict)}


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return _has_field(kind, "bytes") and _holds_bytes(kind.field("bytes").type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _has_field(kind: Any, name: str) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind)) and kind.get_field_index(name) >= 0


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_plain(kind: Any) -> bool:
    """Whether a column may say something about a video: text, a number, or a few of them."""
    from pyarrow import types

    if types.is_struct(kind):
        return all(_is_plain(kind.field(at).type) for at in range(kind.num_fields))
    return _is_text(kind) or bool(
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    )

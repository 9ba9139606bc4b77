"""WebDataset shards of raw video or of frames, read as sources without unpacking them.

    sub/vid0.mp4  sub/vid0.json  sub/vid0.cls         ──▶ Sample "sub/vid0.mp4", caption, class
    vid1.0001.jpg  vid1.0002.jpg  vid1.cls            ──▶ Sample "vid1": the frames of a video
    vid2/0001.jpg  vid2/0001.cls  vid2/0002.jpg  …    ──▶ Sample "vid2": the same, a key for each frame

A sample is a run of adjacent members, so that its bytes are one range of the tar: that range,
with the address of the tar, is the source's location, and `extract` brings what it shows to a
local disk. Listing reads headers and small members alone.
"""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ausl_dist.corpus.suffixes import VIDEO_SUFFIXES
from ausl_dist.faces.decode import IMAGE_SUFFIXES
from ausl_dist.files import naming
from ausl_dist.shards.tar import (
    BLOCK_BYTES,
    EXTENDED,
    MAX_EXTENDED_HEADER_BYTES,
    REGULAR,
    TarError,
    extended_name,
    parse_header,
)
from ausl_dist.tables import has_system_part

ReadAt = Callable[[int, int], bytes]  # bytes [start, end) of a tar

AHEAD_BYTES = 256 << 10
COPY_BYTES = 8 << 20
MAX_NOTE_BYTES = 64 << 10  # of a .json, .txt or .cls; larger ones are passed over
MAX_NOTES = 32
MAX_NOTE_CHARACTERS = 1024
NOTE_SUFFIXES = frozenset(("json", "txt", "cls", "caption"))
_RANGE = re.compile(r"(?P<tar>.+\.tar)#(?P<start>\d{1,15})-(?P<end>\d{1,15})", re.DOTALL)
_NUMBER = re.compile(r"(\d{1,9})$")


LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)


class Entry(NamedTuple):
    """One regular file of a tar."""

    name: str
    start: int  # of its first header
    data: int  # of its content
    size: int

    @property
    def end(self) -> int:
        return self.data + -(-self.size // BLOCK_BYTES) * BLOCK_BYTES


@dataclass
class Sample:
    """One video, or the frames of one, in a tar."""

    name: str  # of the source: the path of a video in the tar, the common part of frames
    start: int
    end: int
    about: dict[str, str] = field(default_factory=dict)  # class, caption, fields of the .json


class _Window:
    """A tar read at any place, some of it ahead."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self.size = size
        self._read_at, self._from, self._data = read_at, 0, b""

    def read(self, start: int, count: int) -> bytes:
        end = min(start + count, self.size)
        if not self._from <= start <= end <= self._from + len(self._data):
            ahead = min(max(end, start + AHEAD_BYTES), self.size)
            self._from, self._data = start, self._read_at(start, ahead)
        return self._data[start - self._from : end - self._from]


def list_samples(read_at: ReadAt, size: int) -> Iterator[Sample]:
    """The videos and runs of frames of a tar, in order, each with another name; TarError where
    it is no such tar.
    """
    names: Counter[str] = Counter()
    for run in _runs(_Window(read_at, size)):
        for sample in run.samples():
            names[sample.name] += 1
            if names[sample.name] > 1:
                sample.name += f"@{sample.start}"
            yield sample


def _runs(window: _Window) -> Iterator["_MemberRun"]:
    run: _MemberRun | None = None
    for entry in _entries(window):
        if has_system_part(entry.name):
            continue
        if run is None or not run.takes(entry, window):
            if run is not None:
                yield run
            run = _MemberRun(entry)
        run.add(entry, window)
    if run is not None:
        yield run


def location_of(tar: str, sample: Sample) -> str:
    return f"{tar}#{sample.start}-{sample.end}"


def is_in_tar(location: str) -> bool:
    return _RANGE.fullmatch(location) is not None


def tar_of(location: str) -> tuple[str, int, int]:
    """The tar of a location, and the range in it."""
    match = _RANGE.fullmatch(location)
    assert match is not None, location
    return match["tar"], int(match["start"]), int(match["end"])


def extract(
    read_at: ReadAt, start: int, end: int, folder: Path, on_bytes: Callable[[int], object]
) -> Path:
    """Write what a range shows into `folder`: a video file, or a folder of numbered images."""
    frames = folder / "frames"
    for entry in _entries(_Window(read_at, end), start):
        suffix = PurePosixPath(entry.name).suffix.lower()
        if has_system_part(entry.name):
            continue
        if suffix in VIDEO_SUFFIXES:
            path = folder / f"source{suffix}"
            _copy(read_at, entry, path, on_bytes)
            return path
        _, number = _counted(entry.name)
        if number is not None and _is_image(entry.name):
            frames.mkdir(exist_ok=True)
            _copy(read_at, entry, frames / f"{number:09d}{suffix}", on_bytes)
    return frames


def _copy(read_at: ReadAt, entry: Entry, path: Path, on_bytes: Callable[[int], object]) -> None:
    with naming(path), open(path, "wb") as file:
        for start in range(entry.data, entry.data + entry.size, COPY_BYTES):
            piece = read_at(start, min(start + COPY_BYTES, entry.data + entry.size))
            file.write(piece)
            on_bytes(len(piece))


class _MemberRun:
    """Adjacent members of one key, or frames that count on and are of one class."""

    def __init__(self, first: Entry) -> None:
        self.start = self.end = first.start
        self._key = key_of_member(first.name)
        self._group, _ = _counted(first.name)
        self._videos: list[Entry] = []
        self._notes: list[tuple[str, str, str]] = []  # whose, name, text
        self._numbers: list[int] = []
        self._about: dict[str, str] = {}
        self._is_mixed = False

    def takes(self, entry: Entry, window: _Window) -> bool:
        """Whether a member belongs to this run: by its key, or as the next frame or its class."""
        if key_of_member(entry.name) == self._key:
            return True
        group, number = _counted(entry.name)
        if self._videos or not self._numbers or number is None or group != self._group:
            return False
        if number <= self._numbers[-1]:
            return False
        notes = dict(_notes_of(entry, window))
        if not notes and not _is_image(entry.name):
            return False
        return notes.get("class") in (None, self._about.get("class"))

    def add(self, entry: Entry, window: _Window) -> None:
        self._key = key_of_member(entry.name)
        self.end = entry.end
        suffix = PurePosixPath(entry.name).suffix.lower()
        group, number = _counted(entry.name)
        if suffix in VIDEO_SUFFIXES:
            self._videos.append(entry)
        elif _is_image(entry.name) and number is not None:
            self._numbers.append(number)
            self._group = group
        for name, text in _notes_of(entry, window):
            self._is_mixed |= name == "class" and self._about.get(name, text) != text
            self._notes.append((_stem(entry.name), name, text))
            if len(self._about) < MAX_NOTES:
                self._about.setdefault(name, text)

    def samples(self) -> Iterator[Sample]:
        """What the run is: a video, images of one class, or nothing. Several videos of one key
        (id1.00001.mp4, id1.00002.mp4) are each one, with what is said of it or of the key.
        """
        if len(self._videos) == 1:
            yield Sample(_plain(self._videos[0].name), self.start, self.end, self._about)
        elif not self._videos and len(self._numbers) > 1 and not self._is_mixed:
            yield Sample(self._group or "frames", self.start, self.end, self._about)
        else:
            for video in self._videos:
                whose = (_stem(video.name), self._key)
                about = {name: text for of, name, text in self._notes if of in whose}
                few = dict(list(about.items())[:MAX_NOTES])
                yield Sample(_plain(video.name), video.start, video.end, few)


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _stem(name: str) -> str:
    """A member's path without its suffix."""
    return PurePosixPath(_plain(name)).with_suffix("").as_posix()


def key_of_member(name: str) -> str:
    """The key of a member as WebDataset has it: its path up to the first dot of the last part."""
    folder, slash, file = _plain(name).rpartition("/")
    return folder + slash + file.partition(".")[0]


def _counted(name: str) -> tuple[str, int | None]:
    """What the frames of one video have in common, and the number: ('vid2', 1) of
    'vid2/0001.jpg', 'vid2.0001.jpg' and 'vid2_0001.cls'.
    """
    stem = _stem(name)
    match = _NUMBER.search(stem)
    return _NUMBER.sub("", stem).rstrip("/_-."), int(match[1]) if match else None


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _notes_of(entry: Entry, window: _Window) -> Iterator[tuple[str, str]]:
    suffix = PurePosixPath(entry.name).suffix.lower()[1:]
    if suffix in NOTE_SUFFIXES and entry.size <= MAX_NOTE_BYTES:
        yield from _notes(suffix, window.read(entry.data, entry.size))


def _notes(kind: str, data: bytes) -> Iterator[tuple[str, str]]:
    """What a member beside a video says: its text, or the plain fields of its JSON."""
    text = data.decode("utf-8", "replace").strip()
    if kind != "json":
        yield ("class" if kind == "cls" else "caption"), text[:MAX_NOTE_CHARACTERS]
        return
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(values, str):
        values = {"caption": values}
    if isinstance(values, dict):
        for name, value in values.items():
            if isinstance(value, str | int | float | bool):
                yield name[:64], str(value)[:MAX_NOTE_CHARACTERS]


def _entries(window: _Window, start: int = 0) -> Iterator[Entry]:
    """The regular files of a tar from a header on."""
    position = first = start
    long_name = ""
    while position < window.size:
        block = window.read(position, BLOCK_BYTES)
        if len(block) == BLOCK_BYTES and not any(block):
            return
        header = parse_header(block, position)
        data = position + BLOCK_BYTES
        position = data + -(-header.size // BLOCK_BYTES) * BLOCK_BYTES
        if header.size < 0 or position > window.size:
            raise TarError(f"tar is cut short inside the member at byte {first}")
        if header.type in EXTENDED:
            if header.size > MAX_EXTENDED_HEADER_BYTES:
                raise TarError(
                    f"tar has an extended header of {header.size} bytes at byte {first}"
                )
            long_name = extended_name(header, window.read(data, header.size)) or long_name
            continue
        if header.type in REGULAR:
            yield Entry(long_name or header.name, first, data, header.size)
        elif header.type in LINKS:
            _refuse_link(long_name or header.name, first)
        first, long_name = position, ""


def _refuse_link(name: str, start: int) -> None:
    """Raise TarError for a link where a video or a picture should be: it would be lost silently."""
    if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES or _is_image(name):
        raise TarError(
            f"{name[:100]!r} at byte {start} is a link, not the file itself: make the tar with "
            "tar --dereference --hard-dereference"
        )

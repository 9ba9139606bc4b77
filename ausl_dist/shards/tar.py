"""Tars of untrusted bytes, with bounds: which members one holds, where each begins and ends.

    read_members   for who must know the places of members: the index
    Guard          for who reads members through another library: reader.py, through WebDataset

Reads what WebDataset writers make: plain uncompressed ustar, pax or GNU tars of regular files.
Sparse files, links, devices, global headers and compression are refused: a few bytes of those
can ask a reader for terabytes, and no clip needs them.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK_BYTES = tarfile.BLOCKSIZE
MAX_MEMBER_BYTES = 64 << 20
MAX_EXTENDED_HEADER_BYTES = 64 << 10
MAX_EXTENDED_HEADERS = 4  # of one member
EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


class TarError(ValueError):
    """Bytes that are not a tar of the kind read here."""


class Reader(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """One regular file of a tar."""

    name: str
    data: bytes
    raw: bytes  # all it takes in the tar: headers, content, padding
    start: int  # of `raw` in the tar


def read_members(file: Reader, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Member]:
    """Yield the members in order with the places they have in the tar, holding one at a time;
    TarError where the bytes are no such tar, are cut short or too large.
    """
    position, start = 0, 0
    raw: list[bytes] = []  # extended headers that belong to the next member
    long_name = ""
    while block := file.read(BLOCK_BYTES):
        if not any(block) and not raw:
            _skip_end(file, position)
            return
        header = _checked_header(block, position, start, len(raw) // 2, max_member_bytes)
        padded = _padded(header.size)
        body = file.read(padded) if padded else b""
        if len(body) != padded:
            raise TarError(f"tar is cut short inside the member at byte {start}")
        position += BLOCK_BYTES + padded
        raw += [block, body]
        if header.type in EXTENDED:
            long_name = extended_name(header, body[: header.size]) or long_name
            continue
        yield Member(long_name or header.name, body[: header.size], b"".join(raw), start)
        start, raw, long_name = position, [], ""
    if raw:
        raise TarError(f"tar is cut short inside the member at byte {start}")


class Guard:
    """A file that looks at every header of the tar in it before it hands the bytes on, so that
    another reader of tars can be let loose on them.

    `read` raises TarError where `read_members` would; readers wrap errors, so it is in
    `problem`.
    """

    def __init__(self, file: Reader, max_member_bytes: int = MAX_MEMBER_BYTES) -> None:
        self.problem: TarError | None = None
        self._file, self._max_member_bytes = file, max_member_bytes
        self._position = self._start = 0  # of the next header, and of the member it belongs to
        self._extended: tarfile.TarInfo | None = None  # whose body is being collected
        self._num_extended = 0  # headers before the next member
        self._collected = bytearray()
        self._wanted = BLOCK_BYTES  # to be collected
        self._passed = 0  # bytes of content that go by uncollected
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, looked at."""
        data = self._file.read(size)
        try:
            self._look_at(data)
        except TarError as error:
            self.problem = TarError(*error.args)  # readers write into the one that is raised
            raise
        return data

    def drain(self) -> None:
        """Look at what is left: readers stop at the end mark."""
        while self.read(1 << 20):
            pass

    def _look_at(self, data: bytes) -> None:
        if not data and (self._passed or self._collected or self._num_extended):
            raise TarError(f"tar is cut short inside the member at byte {self._start}")
        place = 0
        while place < len(data):
            if self._ended:
                if any(memoryview(data)[place:]):
                    raise _behind_the_end(self._position)
                return
            if self._passed:
                step = min(self._passed, len(data) - place)
                self._passed -= step
            else:
                step = min(self._wanted - len(self._collected), len(data) - place)
                self._collected += data[place : place + step]
                if len(self._collected) == self._wanted:
                    self._take(bytes(self._collected))
                    self._collected.clear()
            place += step

    def _take(self, collected: bytes) -> None:
        """A header, or the body of an extended one, has come whole."""
        if self._extended is not None:
            extended_name(self._extended, collected[: self._extended.size])
            self._extended, self._wanted = None, BLOCK_BYTES
            return
        if not any(collected) and not self._num_extended:
            self._ended = True
            return
        if not self._num_extended:
            self._start = self._position
        header = _checked_header(
            collected, self._position, self._start, self._num_extended, self._max_member_bytes
        )
        padded = _padded(header.size)
        self._position += BLOCK_BYTES + padded
        if header.type in EXTENDED:
            self._num_extended += 1
            if padded:
                self._extended, self._wanted = header, padded
            else:
                extended_name(header, b"")
        else:
            self._num_extended, self._passed = 0, padded


def member_block(name: str, data: bytes) -> bytes:
    """One member as it stands in a tar, without owner and time."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(data), 0o644
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK_BYTES)


def _checked_header(
    block: bytes, position: int, start: int, num_extended: int, max_member_bytes: int
) -> tarfile.TarInfo:
    header = parse_header(block, position)
    limit = MAX_EXTENDED_HEADER_BYTES if header.type in EXTENDED else max_member_bytes
    if not 0 <= header.size <= limit or num_extended > MAX_EXTENDED_HEADERS:
        raise TarError(
            f"tar member at byte {start} claims {header.size} bytes, at most {limit} are read"
        )
    if header.type not in (*EXTENDED, *REGULAR):
        raise TarError(
            f"tar member {header.name[:100]!r} at byte {start} is no regular file (type "
            f"{header.type!r})"
        )
    return header


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _skip_end(file: Reader, position: int) -> None:
    while piece := file.read(1 << 20):
        if any(piece):
            raise _behind_the_end(position)


def _behind_the_end(position: int) -> TarError:
    # other readers stop at the end mark, so a member behind it would be one that only we see
    return TarError(
        f"tar has data behind its end mark at byte {position}; "
        "join tars with `tar --concatenate`, not with cat"
    )


def hashing(file: Reader, *updates: Callable[[bytes], object]) -> Reader:
    """A reader that hands everything read from `file` to the `updates` as well."""

    class Hashing:
        def read(self, size: int = -1, /) -> bytes:
            data = file.read(size)
            for update in updates:
                update(data)
            return data

    return Hashing()


def parse_header(block: bytes, position: int) -> tarfile.TarInfo:
    """The header of a member; TarError that says what the bytes are instead."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        kind = (
            "a compressed file"
            if position == 0 and block[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
            else "no plain tar"
        )
        raise TarError(
            f"{kind} at byte {position} ({error}); shards are uncompressed tars"
        ) from error
    return header


def extended_name(header: tarfile.TarInfo, body: bytes) -> str:
    """The name that a GNU or pax extended header gives the next member, '' when it gives none."""
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return body.rstrip(b"\0").decode("utf-8", "surrogateescape")
    name = ""
    while body:
        length_text, _, _ = body.partition(b" ")
        if not (
            length_text.isdigit()
            and len(length_text) < 8
            and len(length_text) < int(length_text) <= len(body)
        ):
            raise TarError("tar has a malformed pax header")
        record, body = (
            body[len(length_text) + 1 : int(length_text) - 1],
            body[int(length_text) :],
        )
        keyword, _, value = record.partition(b"=")
        if keyword == b"size" or keyword.startswith(b"GNU.sparse"):
            raise TarError(
                f"tar has a pax header {keyword.decode(errors='replace')!r}: no clip needs one"
            )
        if keyword == b"path":
            name = value.decode("utf-8", "surrogateescape")
    return name

"""Walking a tar of untrusted bytes with bounds: which members it holds, where each begins and ends.

Reads what WebDataset writers make: plain uncompressed ustar, pax or GNU tars of regular files.
Sparse files, links, devices, global headers and compression are refused: a few bytes of those can
ask a reader for terabytes, and no clip needs them.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ausl_dist.shards.clip import MAX_MEMBER_BYTES

BLOCK_BYTES = tarfile.BLOCKSIZE
MAX_EXTENDED_HEADER_BYTES = 64 << 10
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
    """Yield the members in order, holding one at a time; TarError where the bytes are no such tar,
    are cut short or too large.
    """
    position, start = 0, 0
    raw: list[bytes] = []  # extended headers that belong to the next member
    long_name = ""
    while block := file.read(BLOCK_BYTES):
        if not any(block) and not raw:
            _skip_end(file, position)
            return
        header = parse_header(block, position)
        limit = MAX_EXTENDED_HEADER_BYTES if header.type in EXTENDED else max_member_bytes
        if not 0 <= header.size <= limit or len(raw) > 8:
            raise TarError(
                f"tar member at byte {start} claims {header.size} bytes, at most {limit} are read"
            )
        padded = -(-header.size // BLOCK_BYTES) * BLOCK_BYTES
        body = file.read(padded) if padded else b""
        if len(body) != padded:
            raise TarError(f"tar is cut short inside the member at byte {start}")
        position += BLOCK_BYTES + padded
        raw += [block, body]
        if header.type in EXTENDED:
            long_name = extended_name(header, body[: header.size]) or long_name
            continue
        if header.type not in REGULAR:
            raise TarError(
                f"tar member {header.name[:100]!r} at byte {start} is no regular file (type "
                f"{header.type!r})"
            )
        yield Member(long_name or header.name, body[: header.size], b"".join(raw), start)
        start, raw, long_name = position, [], ""
    if raw:
        raise TarError(f"tar is cut short inside the member at byte {start}")


def _skip_end(file: Reader, position: int) -> None:
    """Read what follows the end mark: other readers stop there, so a member behind it would be one
    that only we see.
    """
    while piece := file.read(1 << 20):
        if any(piece):
            raise TarError(
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
        record, body = body[len(length_text) + 1 : int(length_text) - 1], body[int(length_text) :]
        keyword, _, value = record.partition(b"=")
        if keyword == b"size" or keyword.startswith(b"GNU.sparse"):
            raise TarError(
                f"tar has a pax header {keyword.decode(errors='replace')!r}: no clip needs one"
            )
        if keyword == b"path":
            name = value.decode("utf-8", "surrogateescape")
    return name

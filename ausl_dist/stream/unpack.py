"""Bytes of one chunk to its clips: WebDataset's tar parsing behind a check of every header.

The bytes have passed their checksum, so this guards against a corpus that was built wrong or with
intent, not against transport.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from webdataset.tariterators import group_by_keys, tar_file_expander

from ausl_dist.shards.clip import KEY_PATTERN, REQUIRED_SUFFIXES, SUFFIXES
from ausl_dist.shards.tar import read_members
from ausl_dist.stream.ledger import MissingClip


@dataclass(frozen=True)
class RawClip:
    """The members of one clip as they stand in the shard, by suffix; those of unknown type are left
    out.
    """

    key: str
    members: dict[str, bytes]


def unpack(data: bytes, clips: int) -> list[RawClip | MissingClip]:
    """The clips of a chunk, in order; a clip that cannot be used stands as a MissingClip in its
    place.

    Raises MissingClip when the chunk as a whole is not what the index says.
    """
    try:
        found = [_clip(sample) for sample in _samples(data)]
    except (ValueError, tarfile.TarError) as error:
        raise MissingClip("unpack", f"chunk is no run of clips: {error}") from error
    if len(found) != clips:
        raise MissingClip("unpack", f"chunk holds {len(found)} clips, the index says {clips}")
    return found


def _samples(data: bytes) -> Iterator[dict[str, Any]]:
    for _ in read_members(io.BytesIO(data)):
        # raises on everything that tarfile would follow too far: compression, sparse files, links,
        # sizes out of bounds
        pass
    files = tar_file_expander([{"url": "chunk", "stream": io.BytesIO(data)}])
    return group_by_keys(files, lcase=False)


def _clip(sample: dict[str, Any]) -> RawClip | MissingClip:
    key = str(sample["__key__"]).removeprefix("./")
    if not KEY_PATTERN.fullmatch(key):
        return MissingClip(
            "unpack",
            f"clip key {key[:200]!r} has characters other than letters, digits, '-' and '_'",
        )
    members = {suffix: sample[suffix] for suffix in SUFFIXES if suffix in sample}
    for suffix in REQUIRED_SUFFIXES:
        if suffix not in members:
            return MissingClip("unpack", f"clip {key} has no {key}.{suffix}")
    return RawClip(key, members)

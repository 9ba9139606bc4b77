"""Clips of a shard, or of a chunk of one: WebDataset reads the tar, behind a guard that has
looked at every header.

    bytes ──Guard──▶ webdataset: tar_file_expander ──▶ group_by_keys ──▶ StoredClip
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ausl_dist.shards.clip import META_SUFFIX, ClipMeta
from ausl_dist.shards.tar import Guard, Reader, TarError, member_block


@dataclass(frozen=True)
class StoredClip:
    """One clip as it lies in a shard."""

    key: str
    members: dict[str, bytes]  # by suffix

    @property
    def meta(self) -> ClipMeta:
        """KEY.json; ValueError with the key when it is absent or breaks the clip record."""
        if META_SUFFIX not in self.members:
            raise ValueError(f"clip {self.key} has no {self.key}.{META_SUFFIX}")
        try:
            return ClipMeta.from_bytes(self.members[META_SUFFIX])
        except ValueError as error:
            raise ValueError(f"clip {self.key}: {error}") from error

    @property
    def blocks(self) -> bytes:
        """The clip as tar members again, for `ShardWriter.add_blocks`."""
        return b"".join(
            member_block(f"{self.key}.{suffix}", data) for suffix, data in self.members.items()
        )


def read_clips(path: Path | str) -> Iterator[StoredClip]:
    """Yield the clips of a local shard in one forward pass, at most one in memory; ValueError
    for a damaged shard.
    """
    with open(path, "rb") as file:
        try:
            yield from clips_in(file)
        except TarError as error:
            raise ValueError(f"{path}: {error}") from error


def clips_in(file: Reader) -> Iterator[StoredClip]:
    """Yield the clips of a tar, or of a run of whole clips of one; TarError where it is none."""
    # WebDataset brings torch with it: three seconds for every process that only writes
    from webdataset.tariterators import group_by_keys, tar_file_expander

    guard = Guard(file)
    files = tar_file_expander([{"url": "", "stream": guard}])
    try:
        for sample in group_by_keys(files, lcase=False):
            key = str(sample["__key__"]).removeprefix("./")
            members = {name: data for name, data in sample.items() if not name.startswith("__")}
            yield StoredClip(key, members)
        guard.drain()
    except (ValueError, tarfile.TarError) as error:
        # WebDataset puts its own state behind what the error says
        raise guard.problem or TarError(str(error.args[0] if error.args else error)) from error

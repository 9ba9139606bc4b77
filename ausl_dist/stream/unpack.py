"""Bytes of one chunk to its clips.

The bytes have passed their checksum, so this guards against a corpus that was built wrong or
with intent, not against transport.
"""

import io

from ausl_dist.shards.clip import KEY_PATTERN, REQUIRED_SUFFIXES, SUFFIXES
from ausl_dist.shards.reader import StoredClip, clips_in
from ausl_dist.stream.ledger import MissingClip

Clips = list[StoredClip | MissingClip]


def unpack(data: bytes, clips: int) -> Clips:
    """The clips of a chunk, in order; a clip that cannot be used stands as a MissingClip in its
    place, and members of unknown type are left out.

    Raises MissingClip when the chunk as a whole is not what the index says.
    """
    try:
        found = [_usable(clip) for clip in clips_in(io.BytesIO(data))]
    except ValueError as error:
        raise MissingClip("unpack", f"chunk is no run of clips: {error}") from error
    if len(found) != clips:
        raise MissingClip("unpack", f"chunk holds {len(found)} clips, the index says {clips}")
    return found


def _usable(clip: StoredClip) -> StoredClip | MissingClip:
    if not KEY_PATTERN.fullmatch(clip.key):
        return MissingClip(
            "unpack",
            f"clip key {clip.key[:200]!r} has characters other than letters, digits, '-' and '_'",
        )
    members = {suffix: clip.members[suffix] for suffix in SUFFIXES if suffix in clip.members}
    for suffix in REQUIRED_SUFFIXES:
        if suffix not in members:
            return MissingClip("unpack", f"clip {clip.key} has no {clip.key}.{suffix}")
    return StoredClip(clip.key, members)

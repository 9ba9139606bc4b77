"""Clips of a shard: whatever reader of tars stands behind the guard, it is shown nothing
unchecked.
"""

import io
import tarfile

import pytest

from ausl_dist.shards.reader import clips_in
from ausl_dist.shards.tar import Guard, TarError, member_block


class Dribble(io.RawIOBase):
    """Hands out its bytes in pieces of odd sizes, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = data, step

    def read(self, size: int = -1, /) -> bytes:
        piece, self._data = self._data[: self._step], self._data[self._step :]
        return piece


def shard(*names: str, end: bytes = bytes(1024)) -> bytes:
    return b"".join(member_block(name, name.encode() * 300) for name in names) + end


@pytest.mark.parametrize("step", [1, 511, 512, 513, 4000, 1 << 20])
def test_clips_come_whole_whatever_pieces_their_bytes_come_in(step: int) -> None:
    clips = list(clips_in(Dribble(shard("a.mp4", "a.json", "b.mp4", "b.x.json"), step)))
    assert [(clip.key, sorted(clip.members)) for clip in clips] == [
        ("a", ["json", "mp4"]),
        ("b", ["mp4", "x.json"]),
    ]
    assert clips[0].members["json"] == b"a.json" * 300


def test_a_clips_own_blocks_are_the_bytes_it_was_read_from() -> None:
    data = shard("a.mp4", "a.json", end=b"")
    (clip,) = clips_in(io.BytesIO(data))
    assert clip.blocks == data


@pytest.mark.parametrize("step", [512, 700, 1 << 20])
@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        (shard("a.mp4")[:-1500], "cut short inside the member at byte 0"),
        (shard("a.mp4") + shard("b.mp4"), "behind its end mark"),
        (shard("a.mp4", "a.mp4"), "duplicate file name"),
        (member_block("a.mp4", b"x") + bytes(range(256)) * 4, "no plain tar at byte 1024"),
    ],
)
def test_damage_is_named_and_not_passed_over(damaged: bytes, complaint: str, step: int) -> None:
    with pytest.raises(TarError, match=complaint):
        list(clips_in(Dribble(damaged, step)))


def test_a_member_of_terabytes_is_refused_before_anything_is_read_for_it() -> None:
    header = tarfile.TarInfo("a.mp4")
    header.size = 1 << 40
    guard = Guard(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(TarError, match="claims 1099511627776 bytes"):
        guard.read(512)
    assert guard.problem is not None

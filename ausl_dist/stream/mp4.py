"""Where the frames of an mp4 clip lie: its sample table, read with bounds from untrusted bytes
in memory.

    bytes ──parse──▶ Video: codec, size, for each frame the bytes of its packet, keyframes, order of display

Opening a clip with FFmpeg takes a fifth of the time of decoding it, nearly all of it spent on
probing for what the sample table says; so the table is read here and the packets go straight to
a decoder that is already open. Names of boxes and fields are those of ISO/IEC 14496-12 (ISO
base media file format). Fragmented files and edit lists that reorder frames are refused or not
needed: a clip's frames are its samples in order of display.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ausl_dist.shards.clip import MAX_CLIP_FRAMES

# sample entries of the codecs a clip may have
CODECS = {
    b"vp09": "vp9",
    b"avc1": "h264",
    b"mp4v": "mjpeg",
}
# what an mp4v entry says of its frames (registration authority of ISO/IEC 14496-1)
MOTION_JPEG = 0x6C
MAX_SIDE = 4096
MAX_BOXES = 1000


class VideoError(ValueError):
    """Bytes that are not a clip's video as the shard format has it."""


@dataclass(frozen=True)
class Video:
    """The sample table of one clip."""

    data: bytes
    codec: str  # FFmpeg's name
    extradata: bytes  # decoder configuration (H.264), else empty
    height: int
    width: int
    offset: NDArray[np.int64]  # of each sample, in decoding order
    size: NDArray[np.int64]
    key: NDArray[np.bool_]
    shown: NDArray[np.int64]  # each sample's place in the order of display

    @property
    def frames(self) -> int:
        return len(self.size)

    def packets(self, wanted: int, last: int) -> Iterator[tuple[int, memoryview]]:
        """(frame number, bytes) of the samples that a decoder needs for frames `wanted` to
        `last`, from a keyframe on.

        Frames with B-frames before them in decoding order come with the samples they may refer
        to.
        """
        before = np.flatnonzero(self.key & (self.shown <= wanted))
        if not len(before):
            raise VideoError(f"no keyframe at or before frame {wanted}")
        view = memoryview(self.data)
        end = int(np.flatnonzero(self.shown <= last).max()) + 1
        for sample in range(int(before[-1]), end):
            start = int(self.offset[sample])
            yield int(self.shown[sample]), view[start : start + int(self.size[sample])]


def parse(data: bytes) -> Video:
    """Read the sample table of the first VP9, H.264 or MJPEG track; VideoError for anything
    malformed, fragmented or out of bounds.
    """
    try:
        movie = dict(_children(memoryview(data)))
        if b"moof" in movie:
            raise VideoError("fragmented mp4: write clips without movflags=frag_*")
        tracks = [box for kind, box in _children(movie[b"moov"]) if kind == b"trak"]
        tables = [
            dict(
                _children(
                    dict(_children(dict(_children(dict(_children(t))[b"mdia"]))[b"minf"]))[
                        b"stbl"
                    ]
                )
            )
            for t in tracks
        ]
        names = [bytes(table[b"stsd"][12:16]) for table in tables]
        for name, table in zip(names, tables, strict=True):
            if name in CODECS:
                return _video(data, table)
    except (struct.error, IndexError, KeyError) as error:
        raise VideoError(f"not a readable mp4 ({error!r})") from error
    raise VideoError(
        "no track in VP9 (vp09), H.264 (avc1) or Motion JPEG (mp4v), "
        f"found {[name.decode('latin1') for name in names]}"
    )


def _children(box: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position = 0
    for _ in range(MAX_BOXES):
        if position + 8 > len(box):
            return
        size, kind = struct.unpack_from(">I4s", box, position)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", box, position + 8)[0], 16
        elif size == 0:
            size = len(box) - position
        if size < head or position + size > len(box):
            raise VideoError(f"mp4 box {kind.decode('latin1')!r} reaches outside of its parent")
        yield kind, box[position + head : position + size]
        position += size
    raise VideoError(f"mp4 has more than {MAX_BOXES} boxes in one place")


def _video(data: bytes, boxes: dict[bytes, memoryview]) -> Video:
    codec, extradata, height, width = _sample_entry(boxes[b"stsd"])
    fixed, count = struct.unpack_from(">4xII", boxes[b"stsz"])
    if not 1 <= count <= MAX_CLIP_FRAMES:
        raise VideoError(f"clip has {count} frames, 1 to {MAX_CLIP_FRAMES} are read")
    size = (
        np.full(count, fixed, np.int64)
        if fixed
        else _integers(boxes[b"stsz"], 12, count, ">u4")
    )
    if b"stss" in boxes:
        keyframes = _integers(boxes[b"stss"], 8, _count(boxes[b"stss"], count), ">u4") - 1
        key = np.zeros(count, bool)
        if len(keyframes) == 0 or keyframes.min() < 0 or keyframes.max() >= count:
            raise VideoError("mp4 names keyframes that it does not have")
        key[keyframes] = True
    else:
        key = np.ones(count, bool)  # no stss: every sample is one
    offset = _offsets(boxes, size)
    if offset.min() < 0 or size.min() < 0 or int((offset + size).max()) > len(data):
        raise VideoError("mp4 sample table points outside of the file")
    return Video(
        data, codec, extradata, height, width, offset, size, key, _display_order(boxes, count)
    )


def _sample_entry(stsd: memoryview) -> tuple[str, bytes, int, int]:
    length, kind = struct.unpack_from(">I4s", stsd, 8)
    width, height = struct.unpack_from(">HH", stsd, 8 + 32)
    if not (16 <= height <= MAX_SIDE and 16 <= width <= MAX_SIDE):
        raise VideoError(
            f"clip has frames of {width} x {height}, 16 to {MAX_SIDE} pixels a side are read"
        )
    # 86 bytes: the fixed part of a visual sample entry
    inner = dict(_children(stsd[8 + 86 : 8 + length]))
    if kind == b"avc1":
        if b"avcC" not in inner:
            raise VideoError("H.264 clip has no decoder configuration (avcC)")
        return CODECS[kind], bytes(inner[b"avcC"]), height, width
    if kind == b"mp4v" and _object_type(bytes(inner[b"esds"])) != MOTION_JPEG:
        raise VideoError("an mp4v track must be Motion JPEG; MPEG-4 video is not read")
    return CODECS[kind], b"", height, width


def _object_type(esds: bytes) -> int:
    """The kind of stream that an elementary stream descriptor (ISO/IEC 14496-1) names."""
    # behind the version; a stream's number and flags, which FFmpeg leaves at 0
    position = _descriptor(esds, 4, tag=3) + 3
    return esds[_descriptor(esds, position, tag=4)]


def _descriptor(data: bytes, position: int, tag: int) -> int:
    """Where the content of the descriptor at `position` begins: behind its tag and a length of
    one to four bytes.
    """
    if data[position] != tag:
        raise VideoError("mp4v track has a malformed descriptor (esds)")
    for end in range(position + 1, position + 5):
        if data[end] < 0x80:
            return end + 1
    raise VideoError("mp4v track has a malformed descriptor (esds)")


def _offsets(boxes: dict[bytes, memoryview], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Byte offset of each sample: chunks of adjacent samples (stco) with a run-length table of
    their sample counts (stsc).
    """
    table, kind = (boxes[b"co64"], ">u8") if b"co64" in boxes else (boxes[b"stco"], ">u4")
    chunks = _integers(table, 8, _count(table, len(size)), kind)
    runs = _integers(boxes[b"stsc"], 8, 3 * _count(boxes[b"stsc"], len(size)), ">u4").reshape(
        -1, 3
    )
    if (
        len(runs) == 0
        or runs[0, 0] != 1
        or np.any(np.diff(runs[:, 0]) <= 0)
        or runs[-1, 0] > len(chunks)
    ):
        raise VideoError("mp4 has a malformed sample-to-chunk table")
    per_chunk = np.repeat(runs[:, 1], np.diff(np.append(runs[:, 0], len(chunks) + 1)))
    if per_chunk.sum() != len(size):
        raise VideoError("mp4 tables disagree on the number of samples")
    ends = np.cumsum(size)
    first = np.cumsum(per_chunk) - per_chunk  # first sample of each chunk
    starts = ends - size
    return np.repeat(chunks - starts[np.minimum(first, len(size) - 1)], per_chunk) + starts


def _display_order(boxes: dict[bytes, memoryview], count: int) -> NDArray[np.int64]:
    if b"ctts" not in boxes:  # no B-frames: decoded in the order of display
        return np.arange(count)
    delays = _runs(boxes[b"ctts"], count, ">i4")
    times = np.cumsum(_runs(boxes[b"stts"], count, ">u4")) + delays
    order = np.empty(count, np.int64)
    order[np.argsort(times, kind="stable")] = np.arange(count)
    return order


def _runs(box: memoryview, count: int, kind: str) -> NDArray[np.int64]:
    """Expand a table of (repeats, value); the values have the NumPy type `kind`."""
    rows = _count(box, count)
    repeats = _integers(box, 8, 2 * rows, ">u4")[::2]
    values = _integers(box, 8, 2 * rows, kind)[1::2]
    if repeats.sum() != count:
        raise VideoError("mp4 tables disagree on the number of samples")
    return np.repeat(values, repeats)


def _count(box: memoryview, most: int) -> int:
    count = int(struct.unpack_from(">4xI", box)[0])
    if count > most:
        raise VideoError(f"mp4 table claims {count} entries for {most} frames")
    return count


def _integers(box: memoryview, start: int, count: int, kind: str) -> NDArray[np.int64]:
    dtype = np.dtype(kind)
    if start + count * dtype.itemsize > len(box):
        raise VideoError("mp4 table is cut short")
    return np.frombuffer(box, dtype, count, start).astype(np.int64)

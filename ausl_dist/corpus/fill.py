"""Shards of ready face crops, as others write them, become shards of clips: what the clip
record asks for and they lack is filled in, and counted.

    KEY.mp4 | frames KEY.NNN.jpg  +  KEY.json, .txt, .cls ──▶ KEY.mp4, KEY.json (ClipMeta)

A video that is a clip's already (VP9 or H.264, yuv420p, constant rate, keyframes near enough)
keeps its bytes; another is encoded again at the corpus' rate. Detector and alignment are
`unknown`, and there are no landmarks: nobody knows how these faces were cut.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.bring import bring
from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.sources import Source, collect
from ausl_dist.faces.decode import Unreadable, open_pictures, open_video
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.faces.video import FrameReader
from ausl_dist.shards import clip
from ausl_dist.shards.clip import MAX_CLIP_FRAMES, ClipMeta
from ausl_dist.shards.encode import VideoMismatch, encode_video, verify_video
from ausl_dist.shards.reader import StoredClip
from ausl_dist.shards.tar import MAX_MEMBER_BYTES
from ausl_dist.shards.writer import MAX_KEY, ShardWriter, key_of

UNKNOWN = "unknown"
PREFIX = "adopted"
DEFAULT_FPS = 25.0  # of frames, which state no rate
MAX_PIXEL_BYTES = 512 << 20  # of one clip, decoded
MIN_FRAMES = 2


@dataclass(frozen=True)
class Filling:
    """What the caller knows that the shards do not say."""

    fps: float | None = None  # of the corpus; None: that of its first video
    licence: str | None = None
    layout: str = "plain"
    identity_field: str | None = None


@dataclass
class Filled:
    """What was done."""

    clips: int = 0
    notes: Counter[str] = field(default_factory=Counter)  # sentence: clips
    ledger: list[dict[str, Any]] = field(default_factory=list)


def fill(tars: Sequence[str], folder: Path, filling: Filling) -> Filled:
    """Write the samples of these tars as clips into shards `adopted-*.tar` in `folder`.

    Raises ValueError where there is none; one that cannot be read stands in the ledger.
    """
    sources = collect(
        tars,
        layout(filling.layout),
        licence=filling.licence,
        identity_field=filling.identity_field,
    ).sources
    writer, done = ShardWriter(folder, prefix=PREFIX), Filled()
    fps = filling.fps
    for source in sources:
        with tempfile.TemporaryDirectory(prefix="ausl-adopt-") as scratch:
            path = bring(source.location, Path(scratch), lambda size: None)
            try:
                fps = fps or _rate(path)
                stored = _clip(source, path, fps, done.notes)
            except (Unreadable, VideoMismatch) as problem:
                reason = problem.reason if isinstance(problem, Unreadable) else "encoding"
                line = {"source": source.name, "reason": reason, "message": str(problem)}
                done.ledger.append(line)
                continue
        writer.add_blocks(stored.blocks)
        done.clips += 1
    writer.close()
    if not done.clips:
        raise ValueError(f"not one of {len(sources)} samples is a clip: {done.ledger[0]}")
    return done


def _clip(source: Source, path: Path, fps: float, notes: Counter[str]) -> StoredClip:
    frames, is_native = _frames(path, fps)
    video = _own_video(path, frames) if is_native else None
    if video is None:
        video = encode_video(frames, fps)
        verify_video(video, frames)
        notes["encoded again, since rate, codec, keyframes or size were not a clip's"] += 1
    key = source.name.rsplit(".", 1)[0]
    if not clip.KEY_PATTERN.fullmatch(key) or len(key) > MAX_KEY:
        key = key_of(source.name)
        notes["given another key: letters, digits, '-' and '_' are allowed, and no folder"] += 1
    notes["detector and alignment are written as 'unknown', start_second as 0"] += 1
    if source.identity is None:
        notes["identity is the clip's own: give --layout or --identity-field"] += 1
    if source.licence == UNKNOWN:
        notes["licence is written as 'unknown': give --licence"] += 1
    meta = ClipMeta(
        source=source.name,
        identity=source.identity or f"{source.name}#0",
        licence=source.licence,
        fps=fps,
        start_second=0.0,
        frames=len(frames),
        detector=UNKNOWN,
        alignment=UNKNOWN,
        about=dict(source.about),
    )
    return StoredClip(key, {clip.VIDEO_SUFFIX: video, clip.META_SUFFIX: meta.to_bytes()})


def _settings(fps: float) -> ReadSettings:
    settings = ReadSettings(fps=fps, min_source_fps=0.0, frames_fps=fps, max_gap_seconds=10.0)
    return replace(settings, work_side=settings.max_side)


def _rate(path: Path) -> float:
    """Frames per second of a video, as a number that is said in few digits."""
    if path.is_dir():
        return DEFAULT_FPS
    rate = 1 / open_pictures(path, _settings(DEFAULT_FPS)).frame_seconds
    return round(min(max(rate, 1.0), 120.0), 3)


def _frames(path: Path, fps: float) -> tuple[NDArray[np.uint8], bool]:
    """The frames [T, H, W, 3] at this rate, with even sides, and whether each is one of the
    source.
    """
    reader = FrameReader(path, _settings(fps))
    frames: list[NDArray[np.uint8]] = []
    numbers = []
    for frame in reader:
        height, width = (side - side % 2 for side in frame.pixels.shape[:2])
        size = (len(frames) + 1) * height * width * 3
        if len(frames) >= MAX_CLIP_FRAMES or size > MAX_PIXEL_BYTES:
            raise Unreadable(
                "too_long", "longer than a clip may be: build a corpus of it instead"
            )
        if frames and frames[0].shape != (height, width, 3):
            raise Unreadable("damaged", "its pictures are of several sizes")
        frames.append(frame.pixels[:height, :width])
        numbers.append(frame.source_frame)
    if len(frames) < MIN_FRAMES or reader.damaged:
        raise Unreadable("damaged" if reader.damaged else "too_short", "not a whole clip")
    is_native = numbers == list(range(len(numbers))) and reader.source_frames == len(numbers)
    return np.stack(frames), is_native


def _own_video(path: Path, frames: NDArray[np.uint8]) -> bytes | None:
    """The bytes of a video that is a clip's already, else None."""
    if path.is_dir() or path.stat().st_size > MAX_MEMBER_BYTES:
        return None
    data = path.read_bytes()
    with open_video(path, ReadSettings()) as container:
        (stream, *others) = container.streams
        if (
            others
            or not isinstance(stream, av.VideoStream)
            or "mp4" not in container.format.name
        ):
            return None
        context = stream.codec_context
        if context.name not in ("h264", "vp9", "libvpx-vp9") or context.pix_fmt != "yuv420p":
            return None
    try:
        verify_video(data, frames)
    except VideoMismatch:
        return None
    return data

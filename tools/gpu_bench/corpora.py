"""Clips to measure with: textures that move, as hard to decode as a face's skin."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import NUM_LANDMARKS, template_id
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.encode import Codec, encode_video
from ausl_dist.shards.index import scan_shard, write_index
from ausl_dist.shards.writer import ShardWriter

FPS = 25.0
DISTINCT = 8  # clips that are encoded; a corpus repeats them under other names


def moving_texture(number: int, frames: int, side: int) -> NDArray[np.uint8]:
    """Frames T side side 3 of a picture that drifts by a pixel a frame."""
    generator = np.random.default_rng(number)
    coarse = generator.uniform(30, 220, (side // 4 + 16, side // 4 + 16, 3)).astype(np.float32)
    grown = (side + 2 * frames, side + 2 * frames)
    picture = (
        cv2.resize(coarse, grown, interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    )
    return np.stack([picture[t : t + side, t // 2 : t // 2 + side] for t in range(frames)])


def drawn_meta(
    source: str,
    identity: str,
    frames: int,
    *,
    quality: dict[str, float] | None = None,
    action_units: tuple[int, ...] = (),
) -> ClipMeta:
    """What is said of a clip that was drawn, for measurements and for tests."""
    return ClipMeta(
        source=source,
        identity=identity,
        licence="CC0-1.0",
        fps=FPS,
        start_second=0.0,
        frames=frames,
        detector="rendered",
        alignment=template_id(),
        quality=quality or {},
        action_units=action_units,
    )


def make_corpus(folder: Path, *, clips: int, frames: int, side: int, codec: Codec) -> str:
    """Write a corpus and return its address."""
    writer = ShardWriter(folder, max_bytes=64 << 20)
    videos = [
        encode_video(moving_texture(number, frames, side), FPS, codec=codec)
        for number in range(min(clips, DISTINCT))
    ]
    landmarks = np.random.default_rng(0).uniform(0, side, (frames, NUM_LANDMARKS, 2))
    for number in range(clips):
        meta = drawn_meta(f"texture-{number}", f"texture-{number}", frames)
        video = videos[number % len(videos)]
        writer.add(f"texture-{number:06d}", meta, video, landmarks.astype(np.float16), None)
    write_index(str(folder), [scan_shard(path, path.name) for path in writer.close()])
    return str(folder)

"""Small corpora for tests: drawn heads that move, with landmarks and labels that are true by
construction.

    folder = make_corpus(tmp_path, clips=12, frames=20, size=64)

is a whole corpus: shards, index, statement, ledger. Every clip differs from every other, and
equal arguments give equal bytes.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.landmarks import CROP_SIZE, NUM_LANDMARKS
from ausl_dist.files import write_json
from ausl_dist.randomness import random_stream
from ausl_dist.shards.encode import Codec, encode_video
from ausl_dist.shards.index import scan_shard, write_index
from ausl_dist.shards.writer import ShardWriter
from tools.gpu_bench.corpora import FPS, drawn_meta

ACTION_UNITS = (1, 12, 26)
CLIPS_PER_IDENTITY = 4
SUBPIXEL_BITS = 4  # cv2 draws at sixteenths of a pixel


@dataclass(frozen=True)
class DrawnClip:
    """One clip before encoding."""

    key: str
    frames: NDArray[np.uint8]  # T H W 3
    landmarks: NDArray[np.float16]  # T 68 2
    action_units: NDArray[np.int8]  # T K


def draw_clip(number: int, *, frames: int = 20, size: int = 64, seed: int = 0) -> DrawnClip:
    """A disc with brows and a mouth whose raise, smile and opening follow the labels of AU 1,
    12 and 26.
    """
    identity = number // CLIPS_PER_IDENTITY
    who = random_stream("drawn identity", seed, identity)
    skin, backdrop = who.uniform(90, 230, 3), who.uniform(0, 120, 3)
    what = random_stream("drawn clip", seed, number)
    drift, phase, speed = (
        what.uniform(-6, 6, 2),
        what.uniform(0, 2 * np.pi, 3),
        what.uniform(0.1, 0.5, 3),
    )
    template = _template()
    pictures, points, labels = [], [], []
    for t in range(frames):
        level = 0.5 + 0.5 * np.sin(phase + speed * t)  # brow, smile, jaw: each 0 to 1
        shape = template.copy()
        shape[17:27, 1] -= 14 * level[0]
        shape[[48, 54], 1] -= 14 * level[1]
        shape[[57, 66, 8], 1] += 20 * level[2]
        shape += drift * np.sin(0.2 * t)
        shape *= size / CROP_SIZE
        pictures.append(_draw(shape, skin, backdrop, size))
        points.append(shape)
        labels.append(np.round(5 * level))
    return DrawnClip(
        key=f"drawn-{seed}-{number:06d}",
        frames=np.stack(pictures),
        landmarks=np.stack(points).astype(np.float16),
        action_units=np.stack(labels).astype(np.int8),
    )


def make_corpus(
    folder: Path,
    *,
    clips: int = 12,
    first_clip: int = 0,
    frames: int = 20,
    size: int = 64,
    codec: Codec = "vp9",
    seed: int = 0,
    action_units: bool = False,
    shard_bytes: int = 256 << 10,
    chunk_bytes: int = 64 << 10,
    planted: bytes | None = None,
) -> Path:
    """Write a corpus of drawn clips into `folder` and return it; small shards and chunks, so
    that there are several of each. The last clip's video is `planted`, where one is given.
    """
    writer = ShardWriter(folder, max_bytes=shard_bytes)
    for number in range(first_clip, first_clip + clips):
        drawn = draw_clip(number, frames=frames, size=size, seed=seed)
        meta = drawn_meta(
            f"drawing-{number // 2}",
            f"person-{number // CLIPS_PER_IDENTITY}",
            frames,
            quality={"sharpness": 1.0},
            action_units=ACTION_UNITS if action_units else (),
        )
        last = number == first_clip + clips - 1
        video = (planted if last else None) or encode_video(drawn.frames, FPS, codec=codec)
        writer.add(
            drawn.key,
            meta,
            video,
            drawn.landmarks,
            drawn.action_units if action_units else None,
        )
    shards = writer.close()
    write_index(
        str(folder), [scan_shard(path, path.name, chunk_bytes=chunk_bytes) for path in shards]
    )
    write_json(
        folder / "corpus.json", {"name": "drawn heads", "licence": "CC0-1.0", "clips": clips}
    )
    (folder / "ledger.jsonl").touch()
    return folder


def _template() -> NDArray[np.float64]:
    """Sixty-eight points of a plain face in a crop of 256 px, iBUG order."""
    points = np.zeros((NUM_LANDMARKS, 2))
    jaw = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([128 + 75 * np.cos(jaw), 120 + 95 * np.sin(jaw)], 1)
    points[17:22] = np.stack([np.linspace(68, 112, 5), [78, 73, 71, 72, 76]], 1)
    points[22:27] = np.stack([np.linspace(144, 188, 5), [76, 72, 71, 73, 78]], 1)
    points[27:31] = np.stack([np.full(4, 128), np.linspace(100, 142, 4)], 1)
    points[31:36] = np.stack([np.linspace(113, 142, 5), [147, 149, 151, 149, 147]], 1)
    eye = np.array([[-15, 0], [-5, -6], [5, -6], [15, 0], [5, 6], [-5, 6]])
    points[36:42], points[42:48] = eye + np.array((97, 100)), eye + np.array((158, 100))
    outer = np.array(
        [
            [-30, 0],
            [-20, -8],
            [-8, -11],
            [0, -10],
            [8, -11],
            [20, -8],
            [30, 0],
            [20, 9],
            [8, 13],
            [0, 14],
            [-8, 13],
            [-20, 9],
        ]
    )
    points[48:60] = outer + np.array((128, 182))
    inner = np.array(
        [[-24, 0], [-10, -3], [0, -3], [10, -3], [24, 0], [10, 3], [0, 4], [-10, 3]]
    )
    points[60:68] = inner + np.array((128, 182))
    return points


def _draw(
    points: NDArray[np.float64],
    skin: NDArray[np.float64],
    backdrop: NDArray[np.float64],
    size: int,
) -> NDArray[np.uint8]:
    picture = np.empty((size, size, 3), np.uint8)
    picture[:] = backdrop
    scale = size / CROP_SIZE
    dark = tuple(float(value) for value in skin * 0.3)
    lips = (float(skin[0]), float(skin[1] * 0.4), float(skin[2] * 0.4))
    _fill(
        picture,
        np.concatenate([points[:17], points[26:16:-1] - (0, 30 * scale)]),
        tuple(float(value) for value in skin),
    )
    for part, closed in (
        (points[17:22], False),
        (points[22:27], False),
        (points[27:31], False),
        (points[31:36], False),
    ):
        _line(picture, part, dark, closed, max(1, round(5 * scale)))
    for eye in (points[36:42], points[42:48]):
        _fill(picture, eye, (240.0, 240.0, 240.0))
        _line(picture, eye, dark, True, 1)
    _fill(picture, points[48:60], lips)
    _fill(picture, points[60:68], (30.0, 10.0, 10.0))
    return picture


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32).reshape(-1, 1, 2)


def _fill(
    picture: NDArray[np.uint8], points: NDArray[np.float64], colour: tuple[float, ...]
) -> None:
    cv2.fillPoly(picture, [_fixed(points)], colour, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)


def _line(
    picture: NDArray[np.uint8],
    points: NDArray[np.float64],
    colour: tuple[float, ...],
    closed: bool,
    width: int,
) -> None:
    cv2.polylines(
        picture,
        [_fixed(points)],
        closed,
        colour,
        thickness=width,
        lineType=cv2.LINE_AA,
        shift=SUBPIXEL_BITS,
    )

"""What augmentation does to one clip: numbers drawn here, applied by frames.py and decode.py, and to landmarks here.

    (seed, epoch, clip key, view) ──draw──▶ Draw: for each frame a crop, an angle, a mirror flag, colour factors, a blur

A draw is a pure function of its arguments, so batches do not depend on threads, prefetching or a resume.

Pixels are taken in two moves. First the frame is halved `level` times, each pixel the mean of the 2 x 2 it replaces, until a crop is
less than 1.42 times the side it is wanted in; then a bilinear warp takes the crop. The halving keeps fine patterns from turning into
false coarse ones. A crop is rounded to whole pixels of the halved frame, so that one without rotation is a plain resize.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ausl_dist.batch import View
from ausl_dist.landmarks import MIRROR, apply_affine
from ausl_dist.randomness import random_stream

MAX_BLUR_SIGMA = 2.0
MIN_BLUR_SIGMA = 0.1


@dataclass(frozen=True)
class Draw:
    """The augmentation of T frames of one clip for one view. Positions are in pixels of the frame halved `level` times."""

    level: int
    crop: NDArray[np.int32]  # T 3: left, top, side
    angle: NDArray[np.float64]  # T, degrees, counter-clockwise as seen, about the crop's centre
    mirror: bool
    image_size: int
    colour: NDArray[np.float32]  # T 4: brightness, contrast, saturation (0 where grey), hue in degrees
    blur_sigma: NDArray[np.float32]  # T, pixels of the output, 0 for none

    @property
    def size(self) -> tuple[int, int]:
        return self.image_size, self.image_size

    def matrices(self) -> NDArray[np.float64]:
        """T 2 3: from view pixels to pixels of the halved frame, pixel centres at integers."""
        left, top, side = self.crop.T.astype(np.float64)
        turn = np.deg2rad(self.angle)
        scale = side / self.image_size
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        sign = -1.0 if self.mirror else 1.0
        linear = np.stack([np.stack([sign * cos, sin], -1), np.stack([-sign * sin, cos], -1)], -2)  # T 2 2
        centre = np.stack([left + side / 2, top + side / 2], -1) - 0.5  # of the crop, in the halved frame
        middle = np.full(2, (self.image_size - 1) / 2)  # of the view
        return np.concatenate([linear, (centre - linear @ middle)[..., None]], -1)

    def landmarks_to_view(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Landmarks T 68 2 of the frames, in the clip's pixels, to the view's pixels; in iBUG order again where mirrored."""
        matrices = self.matrices()
        factor = 2**self.level
        inside = (points.astype(np.float64) + 0.5) / factor - 0.5
        inverse = np.linalg.inv(matrices[..., :2])
        moved = apply_affine(np.concatenate([inverse, -inverse @ matrices[..., 2:]], -1), inside)
        return (moved[:, MIRROR] if self.mirror else moved).astype(np.float32)


def draw_window_start(frames: int, window: int, *, seed: int, epoch: int, key: str) -> int:
    """The first frame of the window of a clip; ValueError when the clip is shorter than the window."""
    if frames < window:
        raise ValueError(f"clip has {frames} frames, the window needs {window}")
    return int(random_stream(seed, "window", epoch, key).integers(0, frames - window + 1))


def draw(view: View, count: int, frame_size: tuple[int, int], image_size: int, *, seed: int, epoch: int, key: str) -> Draw:
    """Draw the augmentation of `count` frames of one clip; `frame_size` is (height, width) of the clip's frames in pixels."""
    random = random_stream(seed, "augment", epoch, key, repr(view))
    mirror = bool(random.random() < view.flip)
    draws = count if view.per_frame else 1

    def repeated(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.broadcast_to(values, (count, *values.shape[1:]))

    share = random.uniform(*view.crop, draws)
    place = random.random((draws, 2))
    angle = random.uniform(-view.rotation, view.rotation, draws)
    factors = [random.uniform(1 - spread, 1 + spread, draws) for spread in (view.brightness, view.contrast, view.saturation)]
    hue = random.uniform(-view.hue, view.hue, draws)
    factors[2] = np.where(random.random(draws) < view.grey, 0.0, factors[2])
    blurred = random.random(draws) < view.blur
    sigma = np.where(blurred, random.uniform(MIN_BLUR_SIGMA, MAX_BLUR_SIGMA, draws), 0.0)

    level = reduction_level(float(share.max()) * min(frame_size), image_size)
    return Draw(
        level=level,
        crop=repeated(_place_crops(share, place, view.centre, frame_size, level)).astype(np.int32),
        angle=repeated(angle),
        mirror=mirror,
        image_size=image_size,
        colour=repeated(np.stack([*factors, hue], -1)).astype(np.float32),
        blur_sigma=repeated(sigma).astype(np.float32),
    )


def centred(view: View, count: int, frame_size: tuple[int, int], image_size: int) -> Draw:
    """No augmentation: the crop of the view's middle size in the middle of the frame, for evaluation."""
    share = np.full(1, sum(view.crop) / 2)
    level = reduction_level(float(share[0]) * min(frame_size), image_size)
    crop = _place_crops(share, np.full((1, 2), 0.5), view.centre, frame_size, level).astype(np.int32)
    colour = np.array([1.0, 1.0, 1.0, 0.0], np.float32)
    return Draw(
        level=level,
        crop=np.repeat(crop, count, 0),
        angle=np.zeros(count),
        mirror=False,
        image_size=image_size,
        colour=np.repeat(colour[None], count, 0),
        blur_sigma=np.zeros(count, np.float32),
    )


def reduction_level(crop_side: float, image_size: int) -> int:
    """How often to halve a frame of which `crop_side` pixels become `image_size`: what is left to the warp is under sqrt 2."""
    return max(0, math.ceil(math.log2(crop_side / image_size) - 0.5))


def _place_crops(
    share: NDArray[np.float64], place: NDArray[np.float64], centre: float, frame_size: tuple[int, int], level: int
) -> NDArray[np.float64]:
    """D 3 (left, top, side) in whole pixels of the halved frame; `place` D 2 in 0-1 says where in the central square."""
    height, width = (size >> level for size in frame_size)
    whole = min(height, width)
    side = np.maximum(np.round(share * whole), 1)
    room = np.maximum(centre * whole - side, 0)
    corner = np.stack([(width - centre * whole) / 2 + place[:, 0] * room, (height - centre * whole) / 2 + place[:, 1] * room], -1)
    limit = np.stack([width - side, height - side], -1)
    return np.concatenate([np.clip(np.round(corner), 0, limit), side[:, None]], -1)

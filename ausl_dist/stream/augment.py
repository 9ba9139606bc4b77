"""What augmentation does to one clip: numbers drawn here, applied by frames.py and decode.py,
and to landmarks here.

    (seed, epoch, clip key, view) ──draw──▶ Draw: of each frame crop, angle, mirroring, colour, blur

A draw is a pure function of its arguments, so batches do not depend on threads, prefetching or
a resume.

Pixels are taken in two moves. First the frame is halved `level` times, each pixel the mean of
the 2 x 2 it replaces, until a crop is less than 1.42 times the side it is wanted in; then a
bilinear warp takes the crop. The halving keeps fine patterns from turning into false coarse
ones. A crop is rounded to whole pixels of the halved frame, so that one without rotation is a
plain resize.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.batch import View
from ausl_dist.convention import MIRROR
from ausl_dist.faces.landmarks import apply_affine
from ausl_dist.randomness import random_stream

# Of the view's side: 0.1 to 2 pixels at 224, as in SimCLR and MoCo v2. In fixed pixels a small
# view would lose the expression.
MIN_BLUR_SIGMA, MAX_BLUR_SIGMA = 0.1 / 224, 2.0 / 224
# brightness, contrast, saturation, hue
NO_COLOUR_CHANGE = np.array([1.0, 1.0, 1.0, 0.0], np.float32)


@dataclass(frozen=True)
class Draw:
    """The augmentation of T frames of one clip for one view.

    Positions are in pixels of the frame halved `level` times.
    """

    level: int
    crop: NDArray[np.int32]  # T 3: left, top, side
    angle: NDArray[np.float64]  # T, degrees, counter-clockwise as seen, about the crop's centre
    mirror: bool
    image_size: int
    # T 4: brightness, contrast, saturation (0 where grey), hue in degrees
    colour: NDArray[np.float32]
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
        # T 2 2
        linear = np.stack(
            [np.stack([sign * cos, sin], -1), np.stack([-sign * sin, cos], -1)], -2
        )
        # of the crop, in the halved frame
        centre = np.stack([left + side / 2, top + side / 2], -1) - 0.5
        middle = np.full(2, (self.image_size - 1) / 2)  # of the view
        return np.concatenate([linear, (centre - linear @ middle)[..., None]], -1)

    def landmarks_to_view(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Landmarks T 68 2 of the frames, in the clip's pixels, to the view's pixels; in iBUG
        order again where mirrored.
        """
        matrices = self.matrices()
        factor = 2**self.level
        inside = (points.astype(np.float64) + 0.5) / factor - 0.5
        inverse = np.linalg.inv(matrices[..., :2])
        moved = apply_affine(
            np.concatenate([inverse, -inverse @ matrices[..., 2:]], -1), inside
        )
        return (moved[:, MIRROR] if self.mirror else moved).astype(np.float32)

    def flow_to_view(
        self, flow: NDArray[np.floating], frame_size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Motion T 2 c c as shares of the sides of frames of `frame_size` (height, width) to T
        2 g g in pixels of the view, g = c / 2.

        A view shows a part of the frame, so it gets a coarser grid. Where mirrored, u changes
        its sign with the picture.
        """
        cells, sides = flow.shape[-1], np.array(frame_size[::-1])
        side = max(1, cells // 2)
        matrices, factor = self.matrices(), 2**self.level
        # of the view's cells, in its pixels
        middles = (np.arange(side) + 0.5) * self.image_size / side - 0.5
        points = np.stack(np.meshgrid(middles, middles), -1).reshape(1, -1, 2)
        # T gg 2, in cells
        places = (apply_affine(matrices, points) + 0.5) * factor * cells / sides - 0.5
        # shares of the sides to pixels of the view
        inverse = np.linalg.inv(matrices[..., :2] * factor) * sides
        moved = []
        for motion, place, turn in zip(flow, places.astype(np.float32), inverse, strict=True):
            picture = np.ascontiguousarray(motion.transpose(1, 2, 0), np.float32)
            at = place.reshape(side, side, 2)
            sampled = cv2.remap(
                picture,
                at[..., 0],
                at[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            moved.append((sampled @ turn.T).transpose(2, 0, 1))
        return np.stack(moved).astype(np.float32)


def draw_window_start(frames: int, window: int, *, seed: int, epoch: int, key: str) -> int:
    """The first frame of the window of a clip; ValueError when the clip is shorter than the
    window.
    """
    if frames < window:
        raise ValueError(f"clip has {frames} frames, the window needs {window}")
    return int(random_stream(seed, "window", epoch, key).integers(0, frames - window + 1))


def draw_window_around(
    labelled: NDArray[np.bool_],
    offsets: tuple[int, ...],
    window: int,
    *,
    seed: int,
    epoch: int,
    key: str,
) -> int:
    """The first frame of a window in which a labelled frame stands at one of `offsets`.

    `labelled` says so of each frame of the clip. The frame is drawn uniformly from those that a
    window can reach, then its place from the offsets that keep the window inside the clip. A
    clip without such a frame gets a window like any other. ValueError as `draw_window_start`.
    """
    anywhere = draw_window_start(len(labelled), window, seed=seed, epoch=epoch, key=key)
    starts = np.flatnonzero(labelled)[:, None] - np.array(offsets)  # frames by offsets
    possible = (starts >= 0) & (starts <= len(labelled) - window)
    reached = np.flatnonzero(possible.any(1))
    if not len(reached):
        return anywhere
    random = random_stream(seed, "labelled window", epoch, key)
    frame = random.choice(reached)
    return int(random.choice(starts[frame][possible[frame]]))


def draw(
    view: View,
    count: int,
    frame_size: tuple[int, int],
    image_size: int,
    *,
    seed: int,
    epoch: int,
    key: str,
) -> Draw:
    """Draw the augmentation of `count` frames of one clip; `frame_size` is (height, width) of
    the clip's frames in pixels.
    """
    random = random_stream(seed, "augment", epoch, key, repr(view))
    mirror = bool(random.random() < view.flip)
    # One call for all numbers: a generator's call costs as much as what is done with them. D is
    # T, or 1 where one draw serves the clip.
    each = view.per_frame or view.colour_per_frame
    uniform = random.random((count if each else 1, 11))
    if not view.per_frame:
        uniform[:, [0, 1, 2, 3]] = uniform[0, [0, 1, 2, 3]]  # size, place and angle
    share = view.crop[0] + (view.crop[1] - view.crop[0]) * uniform[:, 0]
    spread = np.array(
        [view.rotation, view.brightness, view.contrast, view.saturation, view.hue]
    )
    angle, *factors, hue = (spread * (2 * uniform[:, 3:8] - 1)).T
    colour = np.stack([*factors, hue], -1) + NO_COLOUR_CHANGE
    colour[uniform[:, 8] < view.grey, 2] = 0.0
    sigma = image_size * (MIN_BLUR_SIGMA + (MAX_BLUR_SIGMA - MIN_BLUR_SIGMA) * uniform[:, 10])
    sigma = np.where(uniform[:, 9] < view.blur, sigma, 0.0)
    level = reduction_level(float(share.max()) * min(frame_size), image_size)
    crop = _place_crops(share, uniform[:, 1:3], view.centre, frame_size, level)
    times = count // len(uniform)
    return Draw(
        level=level,
        crop=crop.repeat(times, 0),
        angle=angle.repeat(times),
        mirror=mirror,
        image_size=image_size,
        colour=colour.astype(np.float32).repeat(times, 0),
        blur_sigma=sigma.astype(np.float32).repeat(times),
    )


def centred(view: View, count: int, frame_size: tuple[int, int], image_size: int) -> Draw:
    """No augmentation: the crop of the view's middle size in the middle of the frame, for
    evaluation.
    """
    share = np.full(1, sum(view.crop) / 2)
    level = reduction_level(float(share[0]) * min(frame_size), image_size)
    crop = _place_crops(share, np.full((1, 2), 0.5), view.centre, frame_size, level)
    return Draw(
        level=level,
        crop=np.repeat(crop, count, 0),
        angle=np.zeros(count),
        mirror=False,
        image_size=image_size,
        colour=NO_COLOUR_CHANGE[None].repeat(count, 0),
        blur_sigma=np.zeros(count, np.float32),
    )


def reduction_level(crop_side: float, image_size: int) -> int:
    """How often to halve a frame of which `crop_side` pixels become `image_size`: what is left
    to the warp is under sqrt 2.
    """
    return max(0, math.ceil(math.log2(crop_side / image_size) - 0.5))


def _place_crops(
    share: NDArray[np.float64],
    place: NDArray[np.float64],
    centre: float,
    frame_size: tuple[int, int],
    level: int,
) -> NDArray[np.int32]:
    """D 3 (left, top, side) in whole pixels of the halved frame; `place` D 2 in 0-1 says where
    in the central square.
    """
    height, width = (size >> level for size in frame_size)
    whole = min(height, width)
    side = np.maximum(np.rint(share * whole), 1.0)[:, None]
    room = np.maximum(centre * whole - side, 0)
    size = np.array([width, height])
    corner = np.rint((size - centre * whole) / 2 + place * room)
    return np.concatenate([np.minimum(np.maximum(corner, 0), size - side), side], -1).astype(
        np.int32
    )

"""What is around the face in one clip: camera, light, background and the sensor's faults.

Drawn once a clip, still within it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

BACKGROUND_SIZE = 320  # pixels of the background picture, whose middle lies behind the face


@dataclass(frozen=True)
class Scene:
    """The surroundings of one clip."""

    distance: float  # mm from the camera to the middle of the head
    focus: float  # camera pixels a mm at that distance
    light: Array  # 3, unit vector towards the main light
    key: float  # strength of the main light
    ambient: float
    tint: Array  # 3, colour of the light
    shine: float
    contrast: float
    blur: float  # sigma of the lens, as a share of the frame's side
    noise: float  # sigma of the sensor, grey levels
    background: NDArray[np.uint8]  # BACKGROUND_SIZE BACKGROUND_SIZE 3


def draw_scene(stream: np.random.Generator) -> Scene:
    """Draw the surroundings of one clip."""
    light = np.array(
        [stream.normal(0, 0.6), stream.uniform(-0.9, 0.1), stream.uniform(0.5, 1.0)]
    )
    warmth = stream.uniform(-0.07, 0.07)
    return Scene(
        distance=float(stream.uniform(500, 1400)),
        focus=float(stream.uniform(0.6, 1.4)),
        light=light / np.linalg.norm(light),
        key=float(stream.uniform(0.45, 0.8)),
        ambient=float(stream.uniform(0.35, 0.6)),
        tint=np.array([1 + warmth, 1.0, 1 - warmth]),
        shine=float(stream.uniform(0, 30)),
        contrast=float(stream.uniform(0.85, 1.1)),
        blur=float(stream.uniform(0.0015, 0.005)),
        noise=float(stream.uniform(0.3, 1.6)),
        background=_draw_background(stream),
    )


def _draw_background(stream: np.random.Generator) -> NDArray[np.uint8]:
    """A room out of focus: a gradient and some large shapes."""
    size = BACKGROUND_SIZE
    corners = stream.uniform(20, 235, (2, 2, 1)) + stream.uniform(-35, 35, (2, 2, 3))
    picture = cv2.resize(corners.astype(np.float32), (size, size))
    for _ in range(stream.integers(2, 9)):
        colour = np.clip(stream.uniform(0, 255) + stream.uniform(-50, 50, 3), 0, 255).tolist()
        x, y, w, h = (int(v) for v in stream.uniform([0, 0, 20, 20], [size, size, 120, 200]))
        if stream.random() < 0.6:
            cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.ellipse(
                picture,
                (x, y),
                (w // 2, h // 2),
                float(stream.uniform(0, 180)),
                0,
                360,
                colour,
                -1,
            )
    soft = cv2.GaussianBlur(picture, (0, 0), float(stream.uniform(1.5, 8)))
    return np.clip(soft, 0, 255).astype(np.uint8)


def noise_tile(stream: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Sensor noise of sigma 1, from which every frame takes another part."""
    return stream.standard_normal((size, size, 3), dtype=np.float32)


def rotation(yaw: float, pitch: float, roll: float = 0.0) -> Array:
    """Rotation matrix [3, 3] for points with x right, y down and z to the viewer, radians: yaw
    first, then pitch, then roll.
    """
    cos, sin = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    turn = np.array([[cos[0], 0, sin[0]], [0, 1, 0], [-sin[0], 0, cos[0]]])
    nod = np.array([[1, 0, 0], [0, cos[1], -sin[1]], [0, sin[1], cos[1]]])
    tilt = np.array([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    return tilt @ nod @ turn

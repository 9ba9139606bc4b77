"""How a decoded picture is to be shown: turned or mirrored, in one of eight ways.

    display matrix (of the container, the bitstream or EXIF) ──▶ as_shown ──▶ the picture upright

A selfie camera mirrors, a telephone turns; FFmpeg's decoders give the matrix and leave the
picture as it is coded.
"""

import functools
from typing import Any

import av
import av.sidedata.sidedata
import numpy as np
from numpy.typing import NDArray

Matrix = tuple[int, int, int, int]  # a, b, c, d: x' = a x + c y, y' = b x + d y
UPRIGHT: Matrix = (1, 0, 0, 1)
MATRIX_BYTES = 36  # 3 x 3 whole numbers: a b u, c d v, x y w


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """How a frame is to be shown, as far as it turns and mirrors; UPRIGHT where nothing says
    so.
    """
    _name_every_kind_of_side_data()
    data: Any = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if data is None or data.buffer_size < MATRIX_BYTES:
        return UPRIGHT
    a, b, _, c, d, *_ = np.frombuffer(bytes(data)[:MATRIX_BYTES], "=i4").tolist()
    return a, b, c, d


def as_shown(picture: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    """A picture [H, W, 3] in the nearest of the eight orientations."""
    a, b, c, d = matrix
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, across, down = picture.swapaxes(0, 1), c, b
    picture = picture[:, ::-1] if across < 0 else picture
    return np.ascontiguousarray(picture[::-1] if down < 0 else picture)


@functools.cache
def _name_every_kind_of_side_data() -> None:
    """PyAV's list of kinds is older than FFmpeg's (EXIF is missing): one frame with a kind that
    has no name there would hide all the others.
    """
    kinds: Any = av.sidedata.sidedata.Type

    def unnamed(kind: Any, value: object) -> object:
        member = object.__new__(kind)
        member._name_, member._value_ = f"UNNAMED_{value}", value
        return member

    kinds._missing_ = classmethod(unnamed)

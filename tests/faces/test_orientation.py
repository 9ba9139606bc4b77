"""All eight orientations, of video and of pictures, come out as a player shows them."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ausl_dist.faces.decode import open_pictures
from ausl_dist.faces.orientation import as_shown, display_matrix
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.release.faces import read_frames
from tests.support.videos import write_video

HEIGHT, WIDTH = 64, 96
ONE = 1 << 16
ORIENTATIONS = range(1, 9)

# By EXIF's numbers: the matrix (a, b, c, d) of QuickTime, x' = a x + c y, y' = b x + d y.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),  # mirrored, as by a selfie camera
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),  # turned right by 90 degrees
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
# What EXIF says of them: where row 0 and column 0 of the coded picture are shown.
SHOWN: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda picture: picture,
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: picture.swapaxes(0, 1)[:, ::-1],
    7: lambda picture: picture.swapaxes(0, 1)[::-1, ::-1],
    8: lambda picture: picture.swapaxes(0, 1)[::-1],
}


def corners() -> NDArray[np.uint8]:
    """H W 3: each quarter another colour."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:] = (250, 20, 20), (20, 250, 20)
    picture[32:, :48], picture[32:, 48:] = (20, 20, 250), (240, 240, 240)
    return picture


def is_like(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> bool:
    return found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() < 8


def read(path: Path) -> NDArray[np.uint8]:
    return next(iter(open_pictures(path, ReadSettings()))).pixels()


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix into the track header of an .mp4 file."""
    a, b, c, d = (ONE * value for value in matrix)
    x = WIDTH * ONE * (matrix[0] < 0 or matrix[2] < 0)
    y = HEIGHT * ONE * (matrix[1] < 0 or matrix[3] < 0)
    upright = struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    at = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(
        data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30) + data[at + 36 :]
    )
    return path


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_video_is_read_as_a_player_shows_it(orientation: int, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", np.stack([corners()] * 3))
    with_matrix(path, MATRICES[orientation])
    assert is_like(read(path), SHOWN[orientation](corners()))


def exif(orientation: int) -> bytes:
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)


def jpeg(orientation: int) -> bytes:
    data = encoded(".jpg")
    segment = b"Exif\0\0" + exif(orientation)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def png(orientation: int) -> bytes:
    data, body = encoded(".png"), b"eXIf" + exif(orientation)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


def webp(orientation: int) -> bytes:
    said = exif(orientation)
    size = struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    head = b"VP8X" + struct.pack("<IB3x", 10, 8) + size
    body = head + encoded(".webp")[12:] + b"EXIF" + struct.pack("<I", len(said)) + said
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, corners()[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, 90])[
        1
    ].tobytes()


@pytest.mark.parametrize("make", [jpeg, png, webp])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_picture_is_read_as_a_viewer_shows_it(
    make: Callable[[int], bytes], orientation: int, tmp_path: Path
) -> None:
    path = tmp_path / f"00001.{make.__name__}"
    path.write_bytes(make(orientation))
    assert is_like(read(path), SHOWN[orientation](corners()))
    (frame,) = read_frames(path, 25.0)
    assert is_like(frame.pixels, SHOWN[orientation](corners())), "by a released backbone"
    (tmp_path / f"00002.{make.__name__}").write_bytes(make(orientation))
    assert is_like(read(tmp_path), SHOWN[orientation](corners())), "in a folder of frames"


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (9, -2, 1, 7), (65536, 1, -1, 65536)])
def test_a_matrix_that_turns_by_little_or_says_nothing_turns_nothing(
    matrix: tuple[int, int, int, int],
) -> None:
    assert np.array_equal(as_shown(corners(), matrix), corners())


def test_a_kind_of_side_data_without_a_name_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(6))
    with av.open(str(path)) as container:
        assert display_matrix(next(container.decode(video=0))) != (1, 0, 0, 1)

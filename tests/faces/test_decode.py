"""Whatever file a user has is either read right, or ends in the ledger with its reason."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from ausl_dist.faces.decode import Unreadable, numbered_images
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.faces.video import Frame, FrameReader
from tests.support.videos import (
    cut_short,
    moving_frames,
    number_of,
    numbered_frames,
    write_absurd_flash,
    write_absurd_header,
    write_no_frames,
    write_six_hours,
    write_sound,
    write_streams,
    write_video,
    write_wide,
)

pytestmark = pytest.mark.timeout(120)


def read(path: Path, **settings: float) -> tuple[FrameReader, list[Frame]]:
    reader = FrameReader(path, ReadSettings(**settings))  # type: ignore[arg-type]
    return reader, list(reader)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx265", "yuv420p"),
        ("a.mkv", "libx264", "yuvj420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mpg", "mpeg1video", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.mxf", "mpeg2video", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("10bit.mp4", "libx265", "yuv420p10le"),
    ],
)
def test_every_kind_of_file_gives_all_its_frames_in_order(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    path = write_video(
        tmp_path / name, numbered_frames(40), codec=codec, pixel_format=pixel_format
    )
    reader, frames = read(path)
    assert reader.source_frames == 40
    assert [frame.index for frame in frames] == list(range(40))
    numbers = [number_of(frame.pixels) for frame in frames]
    assert all(abs(number - wanted) <= 2 for wanted, number in enumerate(numbers)), numbers


def test_a_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "really-matroska.mp4", moving_frames(30), container="matroska"
    )
    assert len(read(path)[1]) == 30


def test_a_rotated_video_comes_out_upright(tmp_path: Path) -> None:
    frames = moving_frames(10, width=96, height=64)
    frames[:, :, :48] = 255  # the left half is white
    for rotation, white in (
        (90, (slice(48, 96), slice(0, 64))),
        (-90, (slice(0, 48), slice(0, 64))),
        (180, (slice(0, 64), slice(48, 96))),
    ):
        path = write_video(tmp_path / f"rotated{rotation}.mp4", frames, rotation=rotation)
        pixels = read(path)[1][0].pixels
        assert pixels.shape[:2] == ((64, 96) if abs(rotation) == 180 else (96, 64))
        assert pixels[white].mean() > 240, f"rotated by {rotation}"


PREVIEW, FILM, LARGE = (64, 36), (160, 90), (320, 180)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("sizes", "marks", "shown"),
    [
        ((PREVIEW, FILM), ("default", "default"), 1),
        ((PREVIEW, FILM), ("", "default"), 1),
        ((FILM, PREVIEW), ("default", "default"), 0),
        ((FILM, LARGE), ("default", ""), 0),
        ((LARGE, FILM, PREVIEW), ("", "default", ""), 1),
        ((FILM, FILM), ("default", "default"), 0),
    ],
)
def test_of_several_streams_the_one_that_a_player_shows_is_read(
    tmp_path: Path,
    suffix: str,
    sizes: tuple[tuple[int, int], ...],
    marks: tuple[str, ...],
    shown: int,
) -> None:
    path = write_streams(tmp_path / f"several{suffix}", sizes, marks)
    reader, frames = read(path)
    assert reader.source_frames == 12
    assert frames[0].pixels.shape[1::-1] == sizes[shown]
    assert round(number_of(frames[0].pixels) / 20) == shown


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "a.mp4", (FILM, LARGE), ("default", "attached_pic"))
    assert read(path)[1][0].pixels.shape[1::-1] == FILM
    with pytest.raises(Unreadable) as refusal:
        read(write_streams(tmp_path / "cover.mp4", (LARGE,), ("attached_pic",)))
    assert refusal.value.reason == "no_video"


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv", "a.flv"])
def test_a_header_that_asks_for_much_memory_gets_none(tmp_path: Path, name: str) -> None:
    write = write_absurd_flash if name.endswith(".flv") else write_absurd_header
    path = write(tmp_path / name)
    assert path.stat().st_size < 1 << 15
    before = peak_of_reading(write_video(tmp_path / "plain.mp4", moving_frames(4)))
    with pytest.raises(Unreadable) as refusal:
        read(path)
    assert refusal.value.reason == "too_large"
    assert peak_of_reading(path) - before < 32 << 20


def test_a_picture_of_eight_bytes_a_pixel_is_read(tmp_path: Path) -> None:
    deep = np.zeros((1024, 1024, 4), np.uint16)
    deep[..., 3] = 65535
    cv2.imwrite(str(tmp_path / "1.png"), deep)
    _, frames = read(tmp_path, max_side=1024, work_side=1024)
    assert len(frames) == 1
    assert frames[0].pixels.shape == (1024, 1024, 3)


def peak_of_reading(path: Path) -> int:
    """Bytes that a fresh process has held at most when it has tried to read a file."""
    code = (
        "import resource, sys, pathlib\n"
        "from ausl_dist.faces.video import FrameReader\n"
        "from ausl_dist.faces.settings import ReadSettings\n"
        "try: list(FrameReader(pathlib.Path(sys.argv[1]), ReadSettings()))\n"
        "except ValueError: pass\n"
        "print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(path)]
    return int(subprocess.run(command, capture_output=True, check=True, cwd=root).stdout)


def test_what_a_system_left_among_the_frames_is_passed_over(tmp_path: Path) -> None:
    for number, pixels in enumerate(numbered_frames(5)):
        cv2.imwrite(str(tmp_path / f"{number + 1:05d}.png"), pixels)
        (tmp_path / f"._{number + 1:05d}.png").write_bytes(b"\0\5\x16\7" * 40)
    for name in (".DS_Store", "Thumbs.db", "._00099.png", ".00098.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    reader, frames = read(tmp_path)
    assert (reader.damaged, reader.missing_frames, len(frames)) == (0, 0, 5)


def test_oblong_pixels_are_made_square(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "pal.mp4",
        moving_frames(5, width=72, height=64),
        pixel_shape=Fraction(16, 11),
    )
    assert read(path)[1][0].pixels.shape == (64, round(72 * 16 / 11), 3)


def test_a_large_picture_is_shrunk_on_reading(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", moving_frames(2, width=1280, height=640))
    assert read(path, work_side=320)[1][0].pixels.shape == (160, 320, 3)


def make_text(path: Path) -> Path:
    path.write_text("this is not video\n" * 500)
    return path


def make_random(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    return path


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("unreadable", lambda folder: _touch(folder / "empty.mp4")),
        ("unreadable", lambda folder: make_text(folder / "text.mp4")),
        ("unreadable", lambda folder: make_random(folder / "noise.mkv")),
        (
            "unreadable",
            lambda folder: cut_short(
                write_video(folder / "no-index.mp4", moving_frames(50)), 0.8
            ),
        ),
        ("unreadable", lambda folder: folder / "absent.mp4"),
        ("unreadable", lambda folder: _folder(folder / "empty-folder")),
        ("no_video", lambda folder: write_sound(folder / "sound.mp4")),
        ("too_large", lambda folder: write_wide(folder / "wide.avi")),
        (
            "too_small",
            lambda folder: write_video(
                folder / "tiny.avi", moving_frames(2, width=14, height=14), codec="ffv1"
            ),
        ),
        ("too_long", lambda folder: write_six_hours(folder / "six-hours.mkv")),
        ("too_long", lambda folder: write_six_hours(folder / "six-hours.mp4")),
        ("no_frames", lambda folder: write_no_frames(folder / "no-frames.mp4")),
        (
            "low_frame_rate",
            lambda folder: write_video(folder / "slow.mp4", moving_frames(20), fps=5),
        ),
    ],
)
def test_absurd_files_are_refused_with_their_reason(
    tmp_path: Path, reason: str, make: Callable[[Path], Path]
) -> None:
    with pytest.raises(Unreadable) as refusal:
        read(make(tmp_path))
    assert refusal.value.reason == reason
    assert str(refusal.value)


def test_a_refused_file_still_tells_its_length(tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as refusal:
        read(write_video(tmp_path / "slow.mp4", moving_frames(20), fps=5))
    assert refusal.value.seconds == pytest.approx(4.0, abs=0.3)


def test_a_file_cut_off_gives_what_there_is_and_says_what_is_missing(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "cut.mkv",
        np.random.default_rng(0).integers(0, 255, (100, 64, 64, 3), np.uint8),
        options={"g": "10"},
    )
    reader, frames = read(cut_short(path, 0.5))
    assert 30 <= len(frames) <= 60
    assert reader.frames + reader.missing_frames == pytest.approx(100, abs=2)


def test_a_file_with_garbage_inside_goes_on_behind_it(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "damaged.ts",
        np.random.default_rng(0).integers(0, 255, (100, 64, 64, 3), np.uint8),
        options={"g": "10"},
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    path.write_bytes(data)
    reader, frames = read(path)
    assert reader.frames > 80
    assert frames[-1].source_frame > 60


def test_one_frame_is_one_frame(tmp_path: Path) -> None:
    reader, frames = read(write_video(tmp_path / "one.mp4", moving_frames(1)))
    assert (reader.source_frames, reader.frames, len(frames)) == (1, 1, 1)


def test_pictures_that_change_size_on_the_way_are_checked_each(tmp_path: Path) -> None:
    small = write_video(
        tmp_path / "small.ts", moving_frames(30, width=64, height=64)
    ).read_bytes()
    large = write_video(
        tmp_path / "large.ts", moving_frames(30, width=512, height=256)
    ).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)
    reader, frames = read(path, max_side=256, work_side=256)
    assert 0 < len(frames) <= 31
    assert reader.problem is not None
    assert reader.problem.reason == "too_large"


def test_a_playlist_cannot_make_the_builder_fetch_addresses(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/video.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(Unreadable):
        read(path)


def test_a_folder_of_numbered_images_is_a_video_with_holes_where_numbers_are_missing(
    tmp_path: Path,
) -> None:
    for number, pixels in enumerate(numbered_frames(60)):
        if not 20 <= number < 35:
            cv2.imwrite(str(tmp_path / f"frame_{number + 1:05d}.png"), pixels)
    (tmp_path / "frame_00050.png").write_bytes(b"no image")
    reader, frames = read(tmp_path)
    assert reader.source_frames == 44
    assert reader.damaged == 1
    assert reader.frames == 60
    assert reader.holes[0][0] in range(20, 24)
    assert reader.holes[0][1] in range(31, 36)
    assert all(abs(number_of(frame.pixels) - frame.source_frame) <= 1 for frame in frames)


@pytest.mark.parametrize(("first", "number"), [(0, 0), (1, 0), (5, 4), (200, 199)])
def test_the_images_of_a_folder_keep_their_numbers_where_the_first_are_missing(
    tmp_path: Path, first: int, number: int
) -> None:
    for index, pixels in enumerate(numbered_frames(4)):
        cv2.imwrite(str(tmp_path / f"{first + index:05d}.png"), pixels)
    reader, frames = read(tmp_path)
    assert [frame.source_frame for frame in frames] == [*range(number, number + 4)]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert reader.source_end == number + 4


def test_numbered_images_sort_by_number_and_not_by_name(tmp_path: Path) -> None:
    for number in (9, 10, 100):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "cover.jpg").touch()
    assert [number for number, _ in numbered_images(tmp_path)] == [9, 10, 100]


def _touch(path: Path) -> Path:
    path.touch()
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_the_images_of_two_cameras_are_not_taken_for_one_video(tmp_path: Path) -> None:
    for name in ("left_1.jpg", "left_2.jpg", "right_2.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(Unreadable, match=r"left_2\.jpg and right_2\.jpg"):
        numbered_images(tmp_path)
    (tmp_path / "right_2.jpg").rename(tmp_path / "left_2.png")
    assert [file.name for _, file in numbered_images(tmp_path)] == ["left_1.jpg", "left_2.jpg"]

"""Whatever time stamps a file has, every frame keeps its time and its number."""

from pathlib import Path

import av
import av.logging
import numpy as np
import pytest

from ausl_dist.faces.clock import FrameNumbers
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.faces.video import Frame, FrameReader
from tests.support.videos import number_of, numbered_frames, write_video, zero_packets

pytestmark = pytest.mark.timeout(120)


def read(path: Path) -> tuple[FrameReader, list[Frame]]:
    reader = FrameReader(path, ReadSettings())
    return reader, list(reader)


def test_variable_frame_rate_becomes_constant_by_time(tmp_path: Path) -> None:
    # 20 frames at 30 frames/s, then 20 at 15 frames/s.
    seconds = [*(t / 30 for t in range(20)), *(20 / 30 + t / 15 for t in range(20))]
    path = write_video(tmp_path / "vfr.mp4", numbered_frames(40), fps=30, seconds=seconds)
    _, frames = read(path)
    for frame in frames:
        nearest = min(range(40), key=lambda t: abs(seconds[t] - frame.index / 25))
        assert (
            abs(seconds[frame.source_frame] - frame.index / 25)
            <= abs(seconds[nearest] - frame.index / 25) + 1e-3
        )
        assert abs(number_of(frame.pixels) - frame.source_frame) <= 1
    assert len(frames) == pytest.approx(2.0 * 25, abs=2)


def test_a_hole_in_the_time_stamps_is_counted_and_splits(tmp_path: Path) -> None:
    seconds = [*(t / 25 for t in range(25)), *(2 + t / 25 for t in range(25))]
    reader, frames = read(
        write_video(tmp_path / "hole.mp4", numbered_frames(50), seconds=seconds)
    )
    assert len(reader.holes) == 1
    first, end = reader.holes[0]
    assert 25 <= first <= 29
    assert 46 <= end <= 50
    assert [frame.index for frame in frames] == [*range(first), *range(end, 75)]
    assert [frame.index for frame in frames if frame.splice] == [end]


def test_time_stamps_that_jump_by_hours_do_not_make_hours(tmp_path: Path) -> None:
    seconds = [*(t / 25 for t in range(25)), *(9000 + t / 25 for t in range(25))]
    path = write_video(tmp_path / "jump.mkv", numbered_frames(50), seconds=seconds)
    _reader, frames = read(path)
    assert len(frames) == 50
    assert [frame.index for frame in frames if frame.splice] == [25]


@pytest.mark.parametrize(
    ("name", "codec", "lost"),
    [
        ("a.mp4", "libx264", (0, 1)),
        ("a.mp4", "libx264", (20, 21, 40)),
        ("a.avi", "mjpeg", (20, 21)),
        ("a.ts", "libx264", (20, 40)),
    ],
)
def test_damage_does_not_renumber_the_frames_behind_it(
    tmp_path: Path, name: str, codec: str, lost: tuple[int, ...]
) -> None:
    """Labels go by number: a lost frame would give all later ones their neighbours' labels."""
    alone = {"g": "1"}
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(
        tmp_path / name, numbered_frames(60), codec=codec, pixel_format=pixels, options=alone
    )
    zero_packets(path, lost)
    reader, frames = read(path)
    assert reader.damaged > 0
    assert {frame.source_frame for frame in frames} == set(range(60)) - set(lost)
    assert all(abs(number_of(frame.pixels) - frame.source_frame) <= 1 for frame in frames)


@pytest.mark.parametrize("damage", ["noise", "zeros", "cut out"])
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_damage_that_matroska_passes_over_does_not_renumber_frames_either(
    tmp_path: Path, codec: str, damage: str
) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(
        tmp_path / "a.mkv",
        numbered_frames(60, width=160, height=120),
        codec=codec,
        pixel_format=pixels,
        options={"g": "1"},
    )
    assert read(path)[0].damaged == 0
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        start, end = packets[20].pos, packets[20].pos + packets[20].size
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).bytes(end - start)
    data[start:end] = {"noise": noise, "zeros": bytes(end - start), "cut out": b""}[damage]
    path.write_bytes(data)
    reader, frames = read(path)
    assert reader.damaged > 0
    assert reader.source_frames < 60
    assert all(abs(number_of(frame.pixels) - frame.source_frame) <= 1 for frame in frames)
    assert av.logging.get_level() is None, "FFmpeg is silent again"


def test_stamps_that_count_no_frames_leave_the_count_to_the_packets() -> None:
    numbers = FrameNumbers(0.04, None)
    assert [numbers.following(None, 0), numbers.following(None, 2)] == [0, 3]
    assert numbers.following(0.013, 3) == 5
    assert numbers.following(0.013 + 2.5 * 0.04, 4) == 7
    assert numbers.following(0.02, 4) is None, "it comes late"

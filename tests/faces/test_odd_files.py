"""Names that look like something else, files that are none, and pictures that end too soon."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ausl_dist.faces.decode import Unreadable, read_image
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.faces.video import Frame, FrameReader
from tests.support.videos import moving_frames, number_of, numbered_frames, write_video

pytestmark = pytest.mark.timeout(120)


def read(path: Path) -> tuple[FrameReader, list[Frame]]:
    reader = FrameReader(path, ReadSettings())
    return reader, list(reader)


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "concat:a.mp4", "a%03d.mp4", "-v.mp4", "a|b?*[1].mp4"]
)
def test_a_name_is_that_of_a_file_and_says_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", moving_frames(4)).rename(name)
    assert len(read(Path(name))[1]) == 4


def test_a_picture_whose_name_looks_like_a_sequence_is_that_picture(tmp_path: Path) -> None:
    pictures = numbered_frames(9)
    for name, number in (("a%d.png", 8), ("a1.png", 3), ("a2.png", 4)):
        cv2.imwrite(str(tmp_path / name), pictures[number])
    assert number_of(read_image(tmp_path / "a%d.png", ReadSettings())) == 8


@pytest.mark.parametrize(
    "kind", ["link to nothing", "link to itself", "folder", "pipe", "text"]
)
def test_what_is_no_image_costs_its_own_frame_and_no_time(tmp_path: Path, kind: str) -> None:
    for number, pixels in enumerate(numbered_frames(5)):
        cv2.imwrite(str(tmp_path / f"{number + 1:05d}.png"), pixels)
    (file := tmp_path / "00003.png").unlink()
    make_odd(file, kind)
    reader, frames = read(tmp_path)
    assert (reader.damaged, reader.source_frames, len(frames)) == (1, 4, 5)


@pytest.mark.parametrize(
    "kind", ["link to nothing", "link to itself", "folder", "pipe", "text"]
)
def test_what_is_no_file_is_no_video(tmp_path: Path, kind: str) -> None:
    make_odd(tmp_path / "a.mp4", kind)
    with pytest.raises(Unreadable) as refusal:
        read(tmp_path / "a.mp4")
    assert refusal.value.reason == "unreadable"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_a_picture_that_is_cut_off_is_none(tmp_path: Path, suffix: str) -> None:
    path, noise = (
        tmp_path / f"1{suffix}",
        np.random.default_rng(0).integers(0, 255, (64, 96, 3)),
    )
    cv2.imwrite(str(path), noise.astype(np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole + b"behind the end")
    assert read_image(path, ReadSettings()).shape == (64, 96, 3)
    for share in (0.4, 0.8, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(Unreadable):
            read_image(path, ReadSettings())


def make_odd(path: Path, kind: str) -> None:
    match kind:
        case "link to nothing":
            path.symlink_to(path.parent / "nothing")
        case "link to itself":
            path.symlink_to(path)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path.write_text("no picture")

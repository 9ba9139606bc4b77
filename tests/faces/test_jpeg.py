"""A JPEG is whole where its own end is there, whatever stands inside its segments or behind it."""

import cv2
import numpy as np
import pytest

from ausl_dist.faces.jpeg import is_cut_jpeg


def jpeg(*options: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", noise, list(options))[1])


WHOLE = {
    "baseline": jpeg(),
    "progressive": jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "with restarts": jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_any_beginning_of_a_picture_is_cut(kind: str) -> None:
    whole = WHOLE[kind]
    assert not is_cut_jpeg(whole)
    for end in (3, 20, len(whole) // 2, len(whole) - 100, len(whole) - 2, len(whole) - 1):
        assert is_cut_jpeg(whole[:end]), end


def test_a_film_behind_the_end_is_no_scan_of_the_picture() -> None:
    film = np.random.default_rng(1).bytes(300_000) + b"\xff\xda\x00\x08 a scan of its own"
    assert not is_cut_jpeg(WHOLE["baseline"] + film)


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture() -> None:
    whole, thumbnail = WHOLE["baseline"], jpeg()[:60_000]
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert not is_cut_jpeg(with_thumbnail)
    assert is_cut_jpeg(with_thumbnail[:-2])


def test_other_files_are_none_of_its_business() -> None:
    assert not is_cut_jpeg(b"")
    assert not is_cut_jpeg(b"\x89PNG\r\n")

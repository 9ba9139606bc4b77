"""The change to a constant frame rate: every frame shows the nearest picture, and every one is
counted.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.faces import video
from ausl_dist.faces.decode import Picture, Unreadable
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.faces.video import FrameReader


class FakePictures:
    """Pictures at given times; `fails_after` raises as a file does that turns out to be absurd."""

    def __init__(
        self,
        seconds: list[float],
        *,
        declared: float | None = None,
        splices: frozenset[int] = frozenset(),
        fails_after: int = -1,
    ) -> None:
        self._seconds, self._splices, self._fails_after = seconds, splices, fails_after
        self.frame_seconds, self.declared_seconds, self.damaged = 0.04, declared, 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for number, time in enumerate(self._seconds):
            if number == self._fails_after:
                raise Unreadable("too_large", "grew")
            yield Picture(
                time,
                number,
                lambda number=number: np.full((2, 2, 3), number % 256, np.uint8),
                number in self._splices,
            )


@pytest.fixture
def reader_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FrameReader]:
    def make(pictures: FakePictures, **values: float) -> FrameReader:
        monkeypatch.setattr(video, "open_pictures", lambda *args, **kwargs: pictures)
        return FrameReader(Path("x"), ReadSettings(**values))  # type: ignore[arg-type]

    return make


@given(
    gaps=st.lists(st.floats(0.001, 0.6), min_size=0, max_size=60),
    fps=st.sampled_from([10.0, 25.0, 30.0]),
)
@settings(max_examples=60, deadline=None)
def test_every_frame_shows_the_nearest_picture_and_holes_fill_the_rest(
    gaps: list[float], fps: float
) -> None:
    times = np.cumsum([0.0, *gaps]).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video, "open_pictures", lambda *args, **kwargs: FakePictures(times))
        reader = FrameReader(Path("x"), ReadSettings(fps=fps))
        frames = list(reader)
    for frame in frames:
        distance = np.abs(np.array(times) - frame.index / fps)
        assert distance[frame.source_frame] <= distance.min() + 1e-6
        assert distance[frame.source_frame] <= 0.1 + 1e-6
    covered = sorted(
        [frame.index for frame in frames]
        + [index for first, end in reader.holes for index in range(first, end)]
    )
    assert covered == list(range(reader.frames))
    assert reader.frames / fps == pytest.approx(times[-1] + 0.02, abs=1 / fps + 1e-6)
    assert reader.source_frames == len(times)


def test_equal_rates_give_every_picture_once(reader_of: Callable[..., FrameReader]) -> None:
    frames = list(reader_of(FakePictures([t / 25 for t in range(100)])))
    assert [frame.source_frame for frame in frames] == list(range(100))


def test_repeated_frames_share_their_pixels(reader_of: Callable[..., FrameReader]) -> None:
    frames = list(reader_of(FakePictures([t / 12.5 for t in range(10)])))
    assert frames[1].pixels is frames[0].pixels or frames[2].pixels is frames[1].pixels


def test_a_splice_is_told_once_even_when_its_picture_is_passed_over(
    reader_of: Callable[..., FrameReader],
) -> None:
    times = [t / 100 for t in range(100)]
    frames = list(reader_of(FakePictures(times, splices=frozenset({49}))))
    assert [frame.index for frame in frames if frame.splice] in ([12], [13])


def test_a_file_that_becomes_absurd_keeps_what_came_before(
    reader_of: Callable[..., FrameReader],
) -> None:
    reader = reader_of(FakePictures([t / 25 for t in range(100)], fails_after=50))
    assert len(list(reader)) == 50
    assert reader.problem is not None
    assert reader.problem.reason == "too_large"


def test_no_picture_at_all_is_unreadable(reader_of: Callable[..., FrameReader]) -> None:
    with pytest.raises(Unreadable) as refusal:
        list(reader_of(FakePictures([])))
    assert refusal.value.reason == "no_frames"


@pytest.mark.parametrize(("declared", "missing"), [(None, 0), (4.0, 0), (4.5, 0), (10.0, 150)])
def test_only_a_second_or_more_counts_as_missing(
    reader_of: Callable[..., FrameReader], declared: float | None, missing: int
) -> None:
    reader = reader_of(FakePictures([t / 25 for t in range(100)], declared=declared))
    list(reader)
    assert reader.missing_frames == missing

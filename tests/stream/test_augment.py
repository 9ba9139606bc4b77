"""Augmentation: numbers that depend on nothing but their names, and landmarks that stay on the
pixels they mark.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.batch import View
from ausl_dist.faces.landmarks import MIRROR, NUM_LANDMARKS
from ausl_dist.shards.encode import encode_video
from ausl_dist.stream.augment import (
    centred,
    draw,
    draw_window_around,
    draw_window_start,
    reduction_level,
)
from ausl_dist.stream.frames import FrameDecoder, view_frames
from ausl_dist.stream.mp4 import parse

VIEWS = st.builds(
    View,
    crop=st.tuples(st.floats(0.2, 0.5), st.floats(0.5, 0.8)),
    per_frame=st.booleans(),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    rotation=st.sampled_from([0.0, 15.0]),
    brightness=st.floats(0, 0.5),
    hue=st.floats(0, 90),
    grey=st.floats(0, 1),
    blur=st.floats(0, 1),
)


@given(
    view=VIEWS,
    size=st.integers(32, 400),
    image_size=st.integers(8, 300),
    epoch=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_a_draw_depends_on_its_names_alone_and_stays_inside_the_frame(
    view: View, size: int, image_size: int, epoch: int
) -> None:
    def once() -> object:
        return draw(view, 5, (size, size), image_size, seed=3, epoch=epoch, key="clip")

    one, other = once(), once()
    for name in ("crop", "angle", "colour", "blur_sigma"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    left, top, side = one.crop.T  # type: ignore[attr-defined]
    halved = size >> one.level  # type: ignore[attr-defined]
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (side >= 1).all()
    assert (left + side <= halved).all()
    assert (top + side <= halved).all()
    assert view.per_frame or len(np.unique(one.crop, axis=0)) == 1  # type: ignore[attr-defined]


def test_draws_of_other_epochs_clips_and_views_differ() -> None:
    view = View(crop=(0.3, 0.8))
    base = draw(view, 1, (256, 256), 64, seed=0, epoch=0, key="a")
    for other in (
        draw(view, 1, (256, 256), 64, seed=1, epoch=0, key="a"),
        draw(view, 1, (256, 256), 64, seed=0, epoch=1, key="a"),
        draw(view, 1, (256, 256), 64, seed=0, epoch=0, key="b"),
        draw(View(crop=(0.3, 0.8), draw=1), 1, (256, 256), 64, seed=0, epoch=0, key="a"),
    ):
        assert not np.array_equal(base.crop, other.crop)


def test_a_blur_is_a_share_of_the_picture_whatever_its_size() -> None:
    view = View(blur=1.0)
    at = {
        side: draw(view, 1, (256, 256), side, seed=0, epoch=0, key="a").blur_sigma[0]
        for side in (48, 224)
    }
    assert 0.1 <= at[224] <= 2.0
    assert at[48] == pytest.approx(at[224] * 48 / 224)


def test_window_starts_cover_the_clip_evenly() -> None:
    starts = [
        draw_window_start(10, 8, seed=0, epoch=0, key=str(number)) for number in range(600)
    ]
    assert set(starts) == {0, 1, 2}
    assert min(np.bincount(starts)) > 150
    with pytest.raises(ValueError, match="the window needs 8"):
        draw_window_start(7, 8, seed=0, epoch=0, key="x")


def test_what_is_left_to_the_warp_never_aliases() -> None:
    for side in range(16, 1000, 7):
        for image_size in (16, 112, 224):
            rest = side / 2 ** reduction_level(side, image_size) / image_size
            assert rest < 1.42
            assert reduction_level(side, image_size) == 0 or rest > 0.7


def dots(centres: np.ndarray, size: int) -> np.ndarray:
    """A frame with a bright dot at each centre (x, y)."""
    rows, columns = np.mgrid[:size, :size]
    frame = np.full((size, size, 3), 20, np.float64)
    for number, (x, y) in enumerate(centres):
        frame[..., number % 3] += 225 * np.exp(
            -((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2)
        )
    return np.clip(frame, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "view",
    [
        View(centre=1.0, crop=(1.0, 1.0)),
        View(centre=0.9, crop=(0.7, 0.9), per_frame=True),
        View(centre=0.9, crop=(0.7, 0.9), flip=1.0),
        View(centre=0.9, crop=(0.6, 0.9), rotation=25.0, per_frame=True),
        View(centre=0.9, crop=(0.6, 0.9), rotation=25.0, flip=1.0),
    ],
)
@pytest.mark.parametrize("image_size", [48, 112, 160])
def test_landmarks_follow_the_pixels(view: View, image_size: int) -> None:
    """A dot is drawn at each landmark; after decoding and augmentation it must be found where
    the mapped landmark says.
    """
    size, frames = 256, 4
    chance = np.random.default_rng(5)
    marked = [27, 36, 8]  # one red, one green, one blue; each in its own channel
    centres = chance.uniform(90, 166, (frames, 3, 2))
    pictures = np.stack([dots(centres[t], size) for t in range(frames)])
    landmarks = np.zeros((frames, NUM_LANDMARKS, 2), np.float16)
    landmarks[:, marked] = centres
    drawn = draw(view, frames, (size, size), image_size, seed=0, epoch=0, key="dots")
    video = parse(encode_video(pictures, 25.0))
    found = view_frames(FrameDecoder(), video, {view: tuple(range(frames))}, {view: drawn}, 0)[
        view
    ]
    mapped = drawn.landmarks_to_view(landmarks)
    for t in range(frames):
        for channel, point in enumerate(marked):
            place = int(np.flatnonzero(point == MIRROR)[0]) if drawn.mirror else point
            x, y = mapped[t, place]
            light = found[t, ..., channel].astype(np.float64)
            light = np.where(light > 100, light - 60, 0)
            rows, columns = np.mgrid[:image_size, :image_size]
            centre = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
            assert np.abs(centre - (x, y)).max() < 0.5, (
                f"frame {t}, landmark {point}: dot at {centre}, landmark at {x, y}"
            )


def test_a_centred_view_is_the_middle_of_the_frame() -> None:
    drawn = centred(View(centre=0.5, crop=(0.5, 0.5)), 2, (256, 256), 128)
    assert drawn.crop.tolist() == [[64, 64, 128]] * 2
    assert drawn.level == 0
    points = np.full((2, NUM_LANDMARKS, 2), 127.5, np.float32)
    assert np.allclose(drawn.landmarks_to_view(points), 63.5)


@given(view=VIEWS, size=st.integers(64, 300), epoch=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_motion_goes_to_the_view_as_the_points_that_move(
    view: View, size: int, epoch: int
) -> None:
    drawn = draw(view, 1, (size, size), 64, seed=3, epoch=epoch, key="clip")
    cells = 32
    places = (np.arange(cells) + 0.5) / cells  # of the cells, as shares of the side
    x, y = np.meshgrid(places, places)
    # any field that is linear in place
    flow = np.stack([0.02 + 0.05 * x - 0.03 * y, -0.01 + 0.04 * y])
    in_view = drawn.flow_to_view(flow[None], (size, size))[0]
    assert in_view.shape == (2, 16, 16)

    middle = np.array([[8, 8], [5, 9]])  # cells of the view, x and y
    at_view = (middle + 0.5) * 64 / 16 - 0.5
    matrix = drawn.matrices()[0]
    at_frame = ((at_view @ matrix[:, :2].T + matrix[:, 2]) + 0.5) * 2**drawn.level
    share = at_frame / size
    end = at_frame + size * np.stack(
        [0.02 + 0.05 * share[:, 0] - 0.03 * share[:, 1], -0.01 + 0.04 * share[:, 1]], -1
    )
    points = np.zeros((1, NUM_LANDMARKS, 2))
    start_end = [
        drawn.landmarks_to_view(_with(points, where - 0.5))[0] for where in (at_frame, end)
    ]
    where = [
        int(np.flatnonzero(np.equal(MIRROR, number))[0]) if drawn.mirror else number
        for number in (0, 1)
    ]
    moved = (start_end[1] - start_end[0])[where]
    np.testing.assert_allclose(in_view[:, middle[:, 1], middle[:, 0]].T, moved, atol=0.05)


def _with(points: np.ndarray, two: np.ndarray) -> np.ndarray:
    filled = points.copy()
    filled[0, :2] = two
    return filled


def test_colour_alone_may_change_from_frame_to_frame() -> None:
    view = View(
        crop=(0.5, 0.8), flip=0.5, rotation=9.0, brightness=0.5, hue=90.0, grey=0.5, blur=0.5
    )
    words = {"seed": 3, "epoch": 1, "key": "clip"}
    once = draw(view, 5, (64, 64), 32, **words)  # type: ignore[arg-type]
    each = draw(replace(view, colour_per_frame=True), 5, (64, 64), 32, **words)  # type: ignore[arg-type]
    assert len(np.unique(each.colour, axis=0)) == 5
    np.testing.assert_array_equal(each.crop, once.crop)
    np.testing.assert_array_equal(each.angle, once.angle)
    assert each.mirror == once.mirror
    # the first frame's colour is that of the clip
    np.testing.assert_array_equal(each.colour[0], once.colour[0])


LABELLED = np.zeros(75, bool)
LABELLED[[3, 40, 70]] = True


def test_a_window_around_labels_holds_one_at_each_place_in_turn() -> None:
    offsets = tuple(range(0, 40, 10))
    starts = [
        draw_window_around(LABELLED, offsets, 31, seed=0, epoch=epoch, key="clip")
        for epoch in range(200)
    ]
    held = [
        [(start + offset, offset) for offset in offsets if LABELLED[start + offset]]
        for start in starts
    ]
    assert all(held)
    assert all(0 <= start <= 75 - 31 for start in starts)
    frames = {frame for found in held for frame, _ in found}
    places = {offset for found in held for _, offset in found}
    assert frames == {3, 40, 70}
    assert places == set(offsets)
    again = draw_window_around(LABELLED, offsets, 31, seed=0, epoch=7, key="clip")
    assert again == starts[7]


def test_a_clip_without_a_label_has_windows_like_any_other() -> None:
    nothing = np.zeros(75, bool)
    for epoch in range(5):
        assert draw_window_around(
            nothing, (0, 10), 11, seed=0, epoch=epoch, key="clip"
        ) == draw_window_start(75, 11, seed=0, epoch=epoch, key="clip")
    with pytest.raises(ValueError, match="window needs 11"):
        draw_window_around(np.ones(10, bool), (0, 10), 11, seed=0, epoch=0, key="clip")

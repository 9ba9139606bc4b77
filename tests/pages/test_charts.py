"""Charts must be well-formed, truthful at the edges, and survive any numbers a run may produce."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.pages.charts import Mark, Series, areas, lines, ticks

VALUES = st.floats(-1e12, 1e12, allow_nan=False)


def points(svg: str) -> list[list[tuple[float, float]]]:
    """The polylines of a chart, in pixels."""
    figure = ElementTree.fromstring(svg)
    drawn = [element.get("points", "") for element in figure.iter("polyline")]
    return [
        [(float(pair.split(",")[0]), float(pair.split(",")[1])) for pair in text.split()]
        for text in drawn
    ]


def test_a_gap_divides_the_line() -> None:
    first, second = points(
        lines([Series("a", range(5), [1.0, 2.0, None, 2.0, 1.0])], label="gap", x_label="step")
    )
    assert len(first) == len(second) == 2


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    ((start, end),) = points(lines([Series("a", [0, 1], [1.0, 2.0])], label="a", x_label="step"))
    assert end[0] > start[0]
    assert end[1] < start[1]


def test_nothing_to_draw_gives_nothing() -> None:
    assert lines([Series("a", [0, 1], [None, None])], label="a", x_label="step") == ""
    assert areas([], label="a", x_label="step") == ""


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), VALUES), min_size=1, max_size=20), st.booleans())
def test_any_finite_numbers_give_a_picture_within_its_frame(
    values: list[float | None], constant_x: bool
) -> None:
    xs = [0.0] * len(values) if constant_x else list(range(len(values)))
    for piece in points(
        lines([Series("a", xs, values)], label="any", x_label="step") or "<figure/>"
    ):
        assert all(0 <= x <= 640 and 0 <= y <= 240 for x, y in piece)


def test_names_and_marks_are_escaped() -> None:
    mark = Mark(0.5, "<rank 0> & others", bad=True)
    svg = lines([Series("<a>", [0, 1], [1.0, 2.0])], label="<l>", x_label="<x>", marks=[mark])
    ElementTree.fromstring(svg)
    assert "<rank" not in svg
    assert "&lt;rank 0&gt; &amp; others" in svg


def test_a_mark_outside_the_axis_is_left_out() -> None:
    assert "late" not in lines(
        [Series("a", [0, 1], [1.0, 2.0])],
        label="a",
        x_label="x",
        marks=[Mark(7.0, "late", bad=True)],
    )


def test_areas_are_stacked() -> None:
    svg = areas(
        [Series("a", [0, 1], [1.0, 1.0]), Series("b", [0, 1], [1.0, 1.0])], label="a", x_label="x"
    )
    polygons = [
        element.get("points", "").split() for element in ElementTree.fromstring(svg).iter("polygon")
    ]
    top_of_a, bottom_of_b = polygons[0][0], polygons[1][-1]
    assert top_of_a == bottom_of_b


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 60), (-3.7, 12.2), (1e-9, 3e-9), (0, 1e12)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 12
    assert all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in found)

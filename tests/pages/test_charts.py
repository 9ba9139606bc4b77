"""Charts must be well-formed, truthful at the edges, and survive any numbers a run may produce."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.pages.charts import (
    HEIGHT,
    WIDTH,
    Mark,
    Series,
    areas,
    histogram,
    is_flat,
    lines,
    panels,
)

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


def dots(svg: str) -> list[str]:
    return [
        title.text or "" for title in ElementTree.fromstring(svg).iterfind(".//circle/title")
    ]


def test_a_single_value_is_seen_as_a_dot() -> None:
    said = [Series("a", [0], [20.4]), Series("b", [0, 1, 2, 3], [1.0, None, 2.0, 3.0])]
    assert dots(lines(said, label="one", x_label="step")) == ["0: 20.4", "0: 1"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, 1.0], ["1"]),
        ([0.07, 0.13], ["0.08", "0.1", "0.12"]),
        ([3.0, 7.1], ["4", "6"]),
        ([0.93, 0.949], ["0.93", "0.94"]),
        ([1.31, 1.49], ["1.31", "1.49"]),
    ],
)
def test_a_histogram_has_two_numbers_under_it_or_the_only_one(
    values: list[float], told: list[str]
) -> None:
    texts = ElementTree.fromstring(histogram(values, label="a")).iterfind(".//text")
    assert [text.text for text in texts] == told


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    ((start, end),) = points(
        lines([Series("a", [0, 1], [1.0, 2.0])], label="a", x_label="step")
    )
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
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in piece)


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
        [Series("a", [0, 1], [1.0, 1.0]), Series("b", [0, 1], [1.0, 1.0])],
        label="a",
        x_label="x",
    )
    polygons = [
        element.get("points", "").split()
        for element in ElementTree.fromstring(svg).iter("polygon")
    ]
    top_of_a, bottom_of_b = polygons[0][0], polygons[1][-1]
    assert top_of_a == bottom_of_b


def test_areas_that_are_all_nought_are_no_chart() -> None:
    assert areas([Series("a", [0, 1], [0.0, 0.0])], label="a", x_label="x") == ""


def test_an_axis_of_nought_alone_is_not_a_billionth_wide() -> None:
    svg = lines([Series("a", [0, 1], [0.0, 0.0])], label="a", x_label="x")
    assert "e-" not in svg


def test_panels_leave_out_what_never_moves_and_say_the_last_value() -> None:
    moving = Series("", [0, 1], [0.25, 0.75])
    still = Series("", [0, 1], [3.0, 3.0])
    figure = panels([("accuracy", [moving]), ("usable", [still])], label="ranking")
    ElementTree.fromstring(figure)
    assert figure.count("<svg") == 1
    assert "accuracy <b>0.75</b>" in figure
    assert is_flat([still])
    assert panels([("usable", [still])], label="ranking") == ""


def test_a_thing_keeps_its_colour_through_several_charts() -> None:
    one = Series("b", [0, 1], [1.0, 2.0], colour=4)
    assert (
        lines([one], label="a", x_label="x").count('class="c4"') == 2
    )  # the curve and its key


def test_every_value_is_in_a_bar_of_the_histogram() -> None:
    figure = ElementTree.fromstring(histogram([1.0, 1.0, 2.0, 9.0], label="seconds"))
    tips = [element.text or "" for element in figure.iter("title")]
    assert sum(int(tip.rsplit(" ", 1)[-1]) for tip in tips) == 4
    assert histogram([], label="seconds") == ""

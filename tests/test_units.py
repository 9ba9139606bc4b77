"""Units of one side: their names, their numbers, and what both sides make together."""

import numpy as np
import pytest

from ausl_dist.units import (
    LEFT,
    RIGHT,
    both_sides,
    column_of,
    is_unit,
    mirrored,
    parse,
    title_of,
    with_both,
)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("AU12", 12),
        ("AU 01", 1),
        ("L12", 1012),
        ("r14", 2014),
        ("AU12L", 1012),
        ("AU14R", 2014),
        ("AUL12", 1012),
        ("AU_R4", 2004),
        ("AU12_left", 1012),
        ("AU12 right", 2012),
        ("AU12_r", None),  # an intensity
        ("L12R", None),
        ("12", None),
        ("AU0", None),
        ("AU123", None),
    ],
)
def test_a_name_says_unit_and_side(name: str, unit: int | None) -> None:
    assert parse(name) == unit


def test_names_and_numbers_go_both_ways() -> None:
    for unit in (1, 12, 1012, 2014):
        assert is_unit(unit)
        assert parse(title_of(unit)) == parse(column_of(unit)) == unit
        assert mirrored(mirrored(unit)) == unit
    assert (mirrored(12), mirrored(1012), mirrored(2014)) == (12, 2012, 1014)
    assert not any(map(is_unit, (0, 100, 1000, 3012, True, "12", 12.0)))


def test_the_stronger_side_is_the_unit_and_doubt_stays_doubt() -> None:
    left = np.array([0, 3, -1, -1, 5, -1], np.int8)
    right = np.array([2, 1, 0, 4, -1, -1], np.int8)
    assert both_sides(left, right).tolist() == [2, 3, -1, -1, 5, -1]


def test_a_unit_is_added_where_its_sides_alone_are_there() -> None:
    values = np.array([[1, 2, 0, 4], [0, -1, 3, 3]], np.int8)
    units, found = with_both((LEFT + 12, RIGHT + 12, 6, LEFT + 14), values)
    assert units == (1012, 2012, 6, 1014, 12)
    assert found.tolist() == [[1, 2, 0, 4, 2], [0, -1, 3, 3, -1]]
    assert with_both((12, 1012, 2012), values[:, :3])[0] == (12, 1012, 2012)

"""Action units by number, and their two sides.

    12      AU 12, on whichever side it shows        the number that FACS gives it
    1012    L12, on the left side alone              LEFT + 12
    2012    R12, on the right side alone             RIGHT + 12

Left is the person's own left, as the FACS manual has it: the right of a picture that is not
mirrored. A unit without a side is as strong as its stronger side: AU 12 is the maximum of L12
and R12, and unknown where one of them is unknown and the other does not already reach the top.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

LEFT, RIGHT = 1000, 2000
MOST = 99  # FACS numbers have two digits
TOP = 5  # the highest intensity
SIDES = {LEFT: "L", RIGHT: "R"}
NUMBER_OF = {"l": LEFT, "left": LEFT, "r": RIGHT, "right": RIGHT}
# AU12, AU 12, AU12L, AU12_left, AUL12, AU_L12, L12, R14; not AU12_r, which is an intensity
NAME = r"(?:AU[ _-]?([LR]?)|([LR]))0*([1-9]\d?)([LR]|[ _-]?(?:left|right))?"
_NAME = re.compile(NAME, re.IGNORECASE | re.ASCII)


def is_unit(number: object) -> bool:
    """Whether a value is the number of an action unit, of a side or of both."""
    return (
        isinstance(number, int)
        and not isinstance(number, bool)
        and number - base_of(number) in (0, LEFT, RIGHT)
        and 1 <= base_of(number) <= MOST
    )


def base_of(number: int) -> int:
    """The FACS number without a side."""
    return number % LEFT


def side_of(number: int) -> str:
    """L, R, or nothing."""
    return SIDES.get(number - base_of(number), "")


def mirrored(number: int) -> int:
    """The unit that shows where this one did, once the picture is mirrored."""
    return base_of(number) + {LEFT: RIGHT, RIGHT: LEFT}.get(number - base_of(number), 0)


def title_of(number: int) -> str:
    """AU12, L12, R14."""
    return f"{side_of(number) or 'AU'}{base_of(number)}"


def column_of(number: int) -> str:
    """AU12, AU12L: a heading of a table of scores."""
    return f"AU{base_of(number):02d}{side_of(number)}"


def parse(name: str) -> int | None:
    """The unit that a name stands for; None where it is no unit's, or names two sides."""
    match = _NAME.fullmatch(name)
    return None if match is None else number_of(match[1] or match[2], match[3], match[4])


def number_of(before: str | None, number: str, after: str | None) -> int | None:
    """The unit of the groups of NAME."""
    sides = {
        NUMBER_OF[part.strip(" _-").lower()]
        for part in (before, after)
        if part is not None and part
    }
    return None if len(sides) > 1 else int(number) + (sides.pop() if sides else 0)


def both_sides(left: NDArray[np.int8], right: NDArray[np.int8]) -> NDArray[np.int8]:
    """Labels of a unit from those of its sides; -1 is unknown."""
    most = np.maximum(left, right)
    unknown = ((left < 0) | (right < 0)) & (most < TOP)
    return np.where(unknown, -1, most).astype(np.int8)


def with_both(
    units: Sequence[int], values: NDArray[np.int8]
) -> tuple[tuple[int, ...], NDArray[np.int8]]:
    """Columns N K, and behind them those of units of which the two sides alone are there."""
    found = without_both(units)
    more = [
        both_sides(*(values[:, list(units).index(side + unit)] for side in (LEFT, RIGHT)))
        for unit in found
    ]
    return (*units, *found), np.column_stack([values, *more]) if more else values


def without_both(units: Iterable[int]) -> tuple[int, ...]:
    """The units of which both sides are among `units`, but not they themselves."""
    there = set(units)
    return tuple(
        sorted(
            unit
            for unit in {base_of(number) for number in there} - there
            if {LEFT + unit, RIGHT + unit} <= there
        )
    )

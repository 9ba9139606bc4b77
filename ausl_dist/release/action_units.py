"""What an action unit is called, and how a score of one is labelled in tables.

Names are those of the Facial Action Coding System (Ekman, Friesen and Hager, FACS Manual,
2002).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ausl_dist.units import base_of, column_of, side_of

# 0 to 1 that the unit is present, or its strength from 0 (absent) to 5 (FACS level E)
Unit = Literal["probability", "intensity"]

NAMES = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    11: "nasolabial deepener",
    12: "lip corner puller",
    13: "sharp lip puller",
    14: "dimpler",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    18: "lip pucker",
    19: "tongue show",
    20: "lip stretcher",
    22: "lip funneler",
    23: "lip tightener",
    24: "lip presser",
    25: "lips part",
    26: "jaw drop",
    27: "mouth stretch",
    28: "lips suck",
    29: "jaw thrust",
    30: "jaw sideways",
    32: "bite",
    33: "blow",
    34: "puff",
    35: "cheek suck",
    38: "nostril dilator",
    39: "nostril compressor",
    43: "eye closure",
    45: "blink",
    46: "wink",
}


@dataclass(frozen=True)
class ActionUnitScores:
    """Scores of one clip: row t belongs to row t of the features, column k to action unit
    `numbers[k]`.
    """

    values: Tensor  # T K float32
    numbers: tuple[int, ...]  # FACS
    names: tuple[str, ...]
    unit: Unit

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings for a table: AU12_intensity."""
        return columns_of(self.numbers, self.unit)


def name_of(number: int) -> str:
    """The FACS name of a unit; "AU n" for one without a name here."""
    name = NAMES.get(base_of(number), f"AU {base_of(number)}")
    side = {"L": ", left", "R": ", right"}.get(side_of(number), "")
    return f"{name}{side}"


def columns_of(numbers: tuple[int, ...], unit: Unit) -> tuple[str, ...]:
    return tuple(f"{column_of(number)}_{unit}" for number in numbers)

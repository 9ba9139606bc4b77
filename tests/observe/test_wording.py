"""Numbers must be said in units that a person reads at a glance."""

import pytest

from ausl_dist.observe.wording import counted, duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (725, "12 min 05 s"),
        (12000, "3 h 20 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_are_said_in_the_units_that_matter(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1536, "1.5 KiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 62, "4096.0 PiB"),
    ],
)
def test_sizes_are_said_in_binary_units(num_bytes: int, text: str) -> None:
    assert size(num_bytes) == text


def test_one_is_singular() -> None:
    assert [counted(number, "step") for number in (0, 1, 2000)] == [
        "0 steps",
        "1 step",
        "2,000 steps",
    ]

"""An axis has few, round numbers, whatever its ends."""

import pytest

from ausl_dist.pages.ticks import ticks_around, ticks_within


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 60), (-3.7, 12.2), (1e-9, 3e-9), (0, 1e12)]
)
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks_within(low, high)
    assert 2 <= len(found) <= 12
    assert all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in found)


@pytest.mark.parametrize("span", [(0, 1), (-0.13, 0.4), (0, 0.071), (-3, 250)])
def test_ticks_are_few_and_cover_the_values(span: tuple[float, float]) -> None:
    ticks = ticks_around(*span)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= span[0] + 1e-9
    assert ticks[-1] >= span[1] - 1e-9

"""Round numbers for an axis."""

import math

COUNT = 5


def ticks_within(low: float, high: float, count: int = COUNT) -> list[float]:
    """About `count` round numbers between two values."""
    step = _round_step((high - low) / count, (1, 2, 5, 10))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def ticks_around(low: float, high: float, count: int = COUNT) -> list[float]:
    """About `count` round numbers that cover [low, high], zero among them where it lies inside."""
    step = _round_step(max(high - low, 1e-6) / count, (1, 2, 2.5, 5, 10))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _round_step(least: float, factors: tuple[float, ...]) -> float:
    """The smallest round number that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in factors if factor * power >= least * 0.999)

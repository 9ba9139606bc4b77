"""The time left must be near the truth and only fall, whatever single steps do; and follow when
the pace has changed.
"""

import random
from collections.abc import Iterable

import pytest

from ausl_dist.observe.throughput import StepWindow, TimedStep
from ausl_dist.observe.time_left import TimeLeft


def said(lengths: Iterable[float], steps: int) -> list[float]:
    """What is said after each of the steps of these lengths, of a run of so many."""
    window, shown = StepWindow(64), []
    left = TimeLeft(window)
    for number, seconds in enumerate(lengths, 1):
        window.add(TimedStep(1, 1, {"total": seconds}, 0.0, {}))
        left.add(seconds, steps - number)
        assert left.seconds is not None
        shown.append(left.seconds)
    return shown


def rises(shown: list[float]) -> list[int]:
    return [i for i in range(1, len(shown)) if shown[i] > shown[i - 1]]


def uneven(steps: int, seed: int) -> list[float]:
    """A first step that compiles, steps that vary by a fifth, a save every fifty, one stall."""
    chance = random.Random(seed)
    lengths = [chance.uniform(0.8, 1.2) + 5.0 * (step % 50 == 49) for step in range(steps)]
    lengths[0], lengths[steps // 3] = 30.0, 600.0
    return lengths


@pytest.mark.parametrize("seed", range(5))
def test_it_only_falls_and_is_near_the_truth(seed: int) -> None:
    lengths = uneven(3000, seed)
    shown = said(lengths, len(lengths))
    assert [step for step in rises(shown) if step > 1] == []
    for step in (1100, 1500, 2500):
        assert shown[step] == pytest.approx(sum(lengths[step + 1 :]), rel=0.15)
    assert shown[-1] == 0


def test_it_rises_once_when_the_pace_changes_and_falls_again() -> None:
    lengths = [1.0] * 500 + [2.0] * 500
    shown = said(lengths, 1000)
    (rise,) = rises(shown)
    assert 500 < rise < 560
    assert shown[600] == pytest.approx(sum(lengths[601:]), rel=0.05)


def test_after_going_back_to_a_checkpoint_the_time_for_its_steps_is_added() -> None:
    window = StepWindow(64)
    left = TimeLeft(window)
    for steps_left in (9, 8, 7, 8):
        window.add(TimedStep(1, 1, {"total": 1.0}, 0.0, {}))
        left.add(1.0, steps_left)
    assert left.seconds == pytest.approx(8.0)

"""Rates must not bend when one step of many was long."""

import pytest

from ausl_dist.observe.throughput import StepWindow, TimedStep, culprit


def window_of(*totals: float, data: float = 0.0, waited: float = 0.0) -> StepWindow:
    window = StepWindow(64)
    for total in totals:
        window.add(
            TimedStep(
                clips=8,
                frames=96,
                seconds={"total": total, "data": data},
                waited=waited,
                blocked={},
            )
        )
    return window


def test_one_long_step_leaves_the_rate() -> None:
    steady, saved = window_of(*[0.1] * 20), window_of(*[0.1] * 19, 4.0)
    assert steady.clips_per_second == pytest.approx(80)
    assert saved.clips_per_second == pytest.approx(80)
    assert saved.frames_per_second == pytest.approx(960)


def test_waiting_for_data_is_a_share_of_the_time() -> None:
    assert window_of(0.1, 0.3, data=0.1).share("data") == pytest.approx(0.5)


def test_a_rank_that_waits_for_another_is_not_slow_itself() -> None:
    assert window_of(1.0, 1.0, waited=0.9).own_seconds == pytest.approx(0.1)
    assert window_of(1.0, 1.0, waited=0.0).own_seconds == pytest.approx(1.0)


def test_before_the_first_step_everything_is_nought() -> None:
    window = StepWindow(8)
    assert (window.clips_per_second, window.share("data"), window.step_seconds) == (0, 0, 0)


def test_only_the_last_steps_count() -> None:
    window = StepWindow(4)
    for total in [9.0] * 10 + [0.1] * 4:
        window.add(TimedStep(1, 1, {"total": total}, 0.0, {}))
    assert window.step_seconds == pytest.approx(0.1)


def test_what_stages_blocked_is_told_of_the_window_alone() -> None:
    window = StepWindow(3)
    for step in range(10):
        window.add(
            TimedStep(1, 1, {"total": 1.0}, 0.0, {"fetch": 100.0 + step, "decode": 2.0 * step})
        )
    assert window.blocked == {"fetch": 2.0, "decode": 4.0}


@pytest.mark.parametrize(
    ("fetch", "decode", "augment", "stage"),
    [
        (9.0, 10.0, 10.0, "fetch"),
        (0.1, 8.0, 10.0, "decode"),
        (0.1, 0.2, 10.0, "augment"),
        (0.0, 0.0, 0.0, None),
        (5.0, 0.0, 0.0, "fetch"),
    ],
)
def test_the_first_stage_that_waits_is_to_blame(
    fetch: float, decode: float, augment: float, stage: str | None
) -> None:
    assert culprit({"fetch": fetch, "decode": decode, "augment": augment}) == stage

"""An answer from outside is given up when it is silent, slow, late or too large, and not
before.
"""

import pytest

from ausl_dist.shards.pace import MIN_BYTES_PER_SECOND, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_slow_but_steady_answer_is_read_to_its_end() -> None:
    clock = Clock()
    pace = Pace(1000.0, 100 << 20, clock=clock)
    for _ in range(900):
        assert pace.seconds() > 0
        clock.now += 1.0
        pace.came(MIN_BYTES_PER_SECOND)


def test_one_that_begins_late_has_as_long_as_others() -> None:
    clock = Clock()
    pace = Pace(100.0, 1 << 20, clock=clock)
    assert pace.seconds() == 15.0
    clock.now = 14.0
    pace.came(1000)
    clock.now = 18.0
    assert pace.seconds() == 15.0


def test_one_that_trickles_is_given_up_long_before_the_deadline() -> None:
    clock = Clock()
    pace = Pace(300.0, 1 << 20, clock=clock)

    def trickle() -> None:
        while clock.now < 300:
            pace.seconds()
            clock.now += 0.1
            pace.came(1)

    with pytest.raises(TimeoutError, match="slower than 16 KiB/s"):
        trickle()
    assert clock.now < 6


@pytest.mark.parametrize("timeout_seconds", [0.1, 1.0, 20.0])
def test_a_silent_one_leaves_time_for_another(timeout_seconds: float) -> None:
    assert Pace(timeout_seconds, 1 << 20, clock=Clock()).seconds() <= timeout_seconds / 2


def test_one_that_is_too_large_or_too_late_is_given_up() -> None:
    clock = Clock()
    pace = Pace(10.0, 1000, clock=clock)
    pace.came(1000)
    with pytest.raises(OSError, match="more than the 1000 bytes"):
        pace.came(1)
    late = Pace(10.0, 1 << 30, clock=clock)
    late.came(1 << 20)
    clock.now += 10.0
    with pytest.raises(TimeoutError, match="not read within 10 s"):
        late.seconds()

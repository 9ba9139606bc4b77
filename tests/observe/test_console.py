"""A person must see how it goes: live on a terminal, in plain lines in a log, and trouble by
name from any rank.
"""

import io

from rich.console import Console as RichConsole

from ausl_dist.observe.console import Console, plain_line
from tests.support.observing import Clock, record, state


def test_a_log_gets_a_line_now_and_then_and_one_for_the_last_step() -> None:
    clock, stream = Clock(), io.StringIO()
    rank = state(clock=clock)
    console = Console("auto", rank, seconds=10.0, stream=stream)
    for step in range(100):
        clock.now += 0.2
        rank.add(record(step))
        console.step()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3  # the first step, one after 10 s, the last
    assert "step 1/100" in lines[0]
    assert "step 100/100" in lines[-1]
    assert "80.0 clips/s" in lines[-1]  # of both ranks together
    assert "waiting for data 10.0%" in lines[-1]


def test_other_ranks_speak_only_of_trouble_and_say_who_they_are() -> None:
    stream = io.StringIO()
    rank = state(rank=3, world_size=4)
    console = Console("auto", rank, seconds=0.1, stream=stream)
    rank.add(record(0))
    console.step()
    console.tell("saved step 1")
    assert stream.getvalue() == ""
    console.trouble("step 7: loss is not finite")
    assert stream.getvalue() == "rank 3 (node7) step 7: loss is not finite\n"


def test_quiet_is_quiet() -> None:
    stream = io.StringIO()
    rank = state()
    console = Console("quiet", rank, seconds=0.1, stream=stream)
    rank.add(record(0))
    console.step()
    console.tell("saved")
    console.trouble("trouble")
    console.close()
    assert stream.getvalue() == ""


def test_the_live_view_shows_rate_losses_stall_and_the_last_troubles() -> None:
    stream = io.StringIO()
    rank = state()
    console = Console("live", rank, seconds=10.0, stream=stream)
    for step in range(2):
        blocked = {"fetch": 0.0, "decode": 1.0 * step}
        logs = {"ranking/loss": 0.25, "contrast/loss": 1.75}
        rank.add(
            record(step, logs=logs, seconds={"data": 0.1, "total": 0.2}, loader_blocked=blocked)
        )
    console.trouble("step 7: loss is not finite")
    page = RichConsole(file=io.StringIO(), width=120)
    page.print(console._view())
    console.close()
    text = page.file.getvalue()  # type: ignore[attr-defined]
    assert any(line.startswith("loss ") for line in text.splitlines())
    for expected in (
        "step 2/100",
        "80.0 clips/s",
        "50.0% (for decode)",
        "ranking",
        "0.2500",
        "contrast",
        "rank 0 (node7) step 7",
    ):
        assert expected in text


def test_a_terminal_that_was_closed_does_not_end_the_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError("the terminal has gone")

    rank = state()
    console = Console("plain", rank, seconds=0.1, stream=Closed())
    rank.add(record(0))
    console.step()
    console.trouble("trouble")


def test_several_objectives_are_told_apart_in_a_line() -> None:
    rank = state()
    rank.add(record(0, logs={"ranking/loss": 0.25, "contrast/loss": 1.75}))
    assert "(ranking 0.2500, contrast 1.7500)" in plain_line(rank)

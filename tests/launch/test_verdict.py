"""The rules by which a failed attempt is started again, requeued, or stopped."""

from hypothesis import given
from hypothesis import strategies as st

from launch.verdict import (
    FAILURES_WITHOUT_PROGRESS,
    RESTART_DELAYS_SECONDS,
    Ended,
    RankReport,
    after_termination,
    blame,
    decide,
)

HOSTS = {0: "a", 1: "a", 2: "b", 3: "b"}
GLOO = (
    "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"
)
ENDS = st.sampled_from(
    ["finished", "saved", "interrupted", "failed", "hung", "diverged", "fenced"]
)


def failed(
    step: int, cause: str = "ValueError: x", host: str = "a", checkpoint: int = 0
) -> Ended:
    return Ended("failed", step, checkpoint, cause, host)


def verdict(now: Ended, past: list[Ended], **others: object):  # type: ignore[no-untyped-def]
    settings = {"hosts": 8} | others
    return decide(RankReport(0, now.host, now.end, now.cause), now, past, **settings)  # type: ignore[arg-type]


def test_the_rank_that_was_killed_is_blamed_and_not_those_that_lost_it() -> None:
    reports = [
        RankReport(0, "a", "failed", GLOO, 1.0),
        RankReport(3, "b", "failed", "killed by SIGKILL", 2.0),
        RankReport(1, "a", "hung", "", 9.0),
    ]
    assert blame(reports, {0: "a", 1: "a", 3: "b"}).rank == 3


def test_a_rank_that_hangs_is_blamed_and_not_those_whose_collective_timed_out() -> None:
    reports = [
        RankReport(0, "a", "failed", "RuntimeError: Timed out waiting 30000ms for recv", 1.0),
        RankReport(2, "b", "hung", "", 9.0),
    ]
    assert blame(reports, {0: "a", 2: "b"}).rank == 2


def test_a_host_without_a_word_is_blamed_and_not_those_that_lost_it() -> None:
    reports = [RankReport(rank, HOSTS[rank], "failed", GLOO, 1.0) for rank in (0, 1)]
    assert blame(reports, HOSTS).host == "b"
    assert blame(reports, HOSTS).end == "silent"


@given(
    st.lists(st.tuples(ENDS, st.sampled_from(["", GLOO, "ValueError"])), min_size=4, max_size=4)
)
def test_an_attempt_counts_as_finished_only_when_every_rank_has(
    ends: list[tuple[str, str]],
) -> None:
    reports = [
        RankReport(rank, HOSTS[rank], end, cause) for rank, (end, cause) in enumerate(ends)
    ]  # type: ignore[arg-type]
    assert (blame(reports, HOSTS).end == "finished") == all(
        end == "finished" for end, _ in ends
    )


def test_the_first_failure_starts_again_at_once_and_later_ones_wait() -> None:
    assert (verdict(failed(15), []).action, verdict(failed(15), []).delay_seconds) == (
        "again",
        0,
    )
    assert (
        verdict(failed(17, host="b"), [failed(15)]).delay_seconds == RESTART_DELAYS_SECONDS[1]
    )


def test_the_same_failure_at_the_same_step_stops_at_the_third_whatever_its_numbers() -> None:
    past = [failed(15, f"OSError: pid 1{n} at 0xab{n}", host) for n, host in enumerate("ab")]
    now = failed(15, "OSError: pid 77 at 0xff", "c")
    assert verdict(now, past[:1]).action == "again"
    assert verdict(now, past).action == "stop"
    assert "3 times in the same way at the same step" in verdict(now, past).why


def test_a_newer_checkpoint_between_failures_begins_the_count_anew() -> None:
    past = [failed(15, host="b"), failed(15, host="c")]
    assert verdict(failed(15, checkpoint=10), past).action == "again"


def test_different_failures_without_any_progress_stop_in_the_end() -> None:
    past = [
        failed(step, f"Error {'x' * step}", f"host{step}")
        for step in range(1, FAILURES_WITHOUT_PROGRESS)
    ]
    assert verdict(failed(99), past[1:]).action == "again"
    assert verdict(failed(99), past).action == "stop"


def test_requeues_for_time_limits_never_add_up_to_a_failure() -> None:
    past = [Ended("interrupted", 15, 0)] * 50
    assert verdict(Ended("interrupted", 15, 0), past).action == "requeue"


def test_a_host_that_failed_twice_is_excluded_up_to_a_share_of_the_hosts() -> None:
    past = [failed(10, host="a", checkpoint=10)]
    assert verdict(failed(25, host="a", checkpoint=20), past).exclude == ("a",)
    assert verdict(failed(25, host="a", checkpoint=20), past, excluded=["b"]).exclude == (
        "b",
        "a",
    )
    full = verdict(failed(25, host="a", checkpoint=20), past, excluded=["b", "c"])
    assert (full.action, full.exclude) == ("again", ())


def test_a_host_that_straggled_twice_is_excluded_at_the_next_requeue() -> None:
    slow = Ended("saved", 40, 40, straggler="c")
    assert verdict(slow, []).exclude == ()
    assert verdict(slow, [slow]).exclude == ("c",)


def test_a_single_host_is_never_excluded_from_its_own_job() -> None:
    assert (
        verdict(failed(25, host="a", checkpoint=20), [failed(10, host="a")], hosts=1).action
        == "again"
    )


def test_a_run_that_diverged_stops_and_a_fenced_one_leaves() -> None:
    assert verdict(Ended("diverged", 5, 0), []).action == "stop"
    assert verdict(Ended("fenced", 5, 0), []).action == "leave"


def test_termination_brings_back_what_was_preempted_and_leaves_what_was_cancelled() -> None:
    assert after_termination("RUNNING") == "requeue"
    assert after_termination("TIMEOUT") == "requeue"
    assert {
        after_termination(state)
        for state in ("CANCELLED", "COMPLETING", "PENDING", "NODE_FAIL")
    } == {"leave"}

"""What follows from how an attempt ended: pure rules from reports and history to one decision.

reports of all ranks ──▶ who failed first (blame) ──▶ with the run's history:
    go on here, requeue without a host, or stop
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# `interrupted`: failed while it was being told to end; `diverged`: gave up of itself, starting
# again would end there again.
End = Literal[
    "finished", "saved", "interrupted", "failed", "hung", "diverged", "fenced", "silent"
]
Action = Literal["done", "again", "requeue", "leave", "stop"]

# the same cause at the same step this often in a row ends the run: starting again would end
# there again
SAME_FAILURES = 3
FAILURES_WITHOUT_PROGRESS = 5  # failures in a row, of any kind, that left no newer checkpoint
HOST_FAILURES = 2  # a host that failed or straggled this often is kept out of the next attempt
# of the job's own number of hosts, at least one: a fault that follows the job must not empty a
# cluster
MAX_EXCLUDED_SHARE = 0.25
# before the n-th start without progress: what failed may need time to come back
RESTART_DELAYS_SECONDS = (0, 5, 30, 120, 300)

# Whose report explains the end of all, first the one that explains most.
BLAME_ORDER = (
    "fenced",
    "diverged",
    "failed",
    "silent",
    "hung",
    "consequence",
    "interrupted",
    "saved",
    "finished",
)

# How a healthy rank fails when another one has gone: the consequence, never the cause.
CONSEQUENCE = re.compile(
    r"Connection (reset|closed|refused)|Timed out waiting|timeout|Broken "
    r"pipe|ProcessGroup|NCCL|[Gg]loo|DistBackendError|Socket",
    re.I,
)


@dataclass(frozen=True)
class RankReport:
    """How one rank of an attempt ended."""

    rank: int
    host: str
    end: End
    cause: str = ""  # the last line of its log, or the signal it died of
    time: float = 0.0  # seconds since the epoch, by its host's clock


@dataclass(frozen=True)
class Ended:
    """One finished attempt, as the history keeps it."""

    end: End
    step: int  # the last step that was logged
    checkpoint_step: int  # of the newest checkpoint; 0 where there is none
    cause: str = ""
    host: str = ""
    straggler: str = ""  # a host that was much slower than the others

    @property
    def failed(self) -> bool:
        return self.end in ("failed", "hung", "silent")


@dataclass(frozen=True)
class Decision:
    """What is done now, and why, in words for the log."""

    action: Action
    why: str
    exclude: tuple[str, ...] = ()
    delay_seconds: float = 0.0


def blame(reports: Sequence[RankReport], ranks: Mapping[int, str]) -> RankReport:
    """The report of the rank that made the attempt end; `ranks` gives every rank's host, so
    that a silent one can be named.

    A rank that died of a signal or an error of its own outranks one that hung; those that only
    lost their partners come last.
    """
    told = {report.rank for report in reports}
    silent = [
        RankReport(rank, host, "silent", "no word from its host")
        for rank, host in ranks.items()
        if rank not in told
    ]

    def order(report: RankReport) -> tuple[int, float, int]:
        consequence = report.end == "failed" and CONSEQUENCE.search(report.cause)
        return (
            BLAME_ORDER.index("consequence" if consequence else report.end),
            report.time,
            report.rank,
        )

    return min([*reports, *silent], key=order)


def decide(
    first: RankReport,
    now: Ended,
    past: Sequence[Ended],
    *,
    hosts: int,
    excluded: Sequence[str] = (),
) -> Decision:
    """What follows from an attempt that ended as `now`, after `past` (oldest first), on `hosts`
    hosts without those already `excluded`.
    """
    if now.end == "finished":
        return Decision("done", "all ranks are done")
    if now.end == "fenced":
        return Decision("leave", "a newer attempt at this run has begun: this one ends")
    bad = _bad_hosts([*past, now], hosts, excluded)
    without = f"; excluded from now on: {', '.join(bad)}" if bad else ""
    if now.end in ("saved", "interrupted"):
        how = (
            "saved"
            if now.end == "saved"
            else "told to end before it could save; goes on from the checkpoint"
        )
        return Decision(
            "requeue",
            f"{how} at step {now.checkpoint_step}{without}",
            exclude=(*excluded, *bad) if bad else (),
        )
    where = (
        f"rank {first.rank} on {first.host} {first.end} after step {now.step}: {first.cause}"
    )
    if now.end == "diverged":
        return Decision("stop", where)
    streak = _failures_without_progress(now, past)
    same = sum(
        1 for each in streak if (each.step, _kind(each.cause)) == (now.step, _kind(now.cause))
    )
    if same >= SAME_FAILURES:
        return Decision(
            "stop", f"failed {same} times in the same way at the same step; {where}"
        )
    if len(streak) >= FAILURES_WITHOUT_PROGRESS:
        return Decision(
            "stop", f"failed {len(streak)} times without a newer checkpoint; {where}"
        )
    delay = RESTART_DELAYS_SECONDS[min(len(streak), len(RESTART_DELAYS_SECONDS)) - 1]
    if bad:
        return Decision("requeue", where + without, exclude=(*excluded, *bad))
    if first.end == "silent":
        return Decision("requeue", where)
    return Decision("again", where, delay_seconds=delay)


def after_termination(state: str) -> Action:
    """What a rank does that was told to end by SIGTERM, by the state that Slurm then gives the
    job.

    RUNNING means that it is being preempted with some grace; TIMEOUT that the warning came too
    late. All other states are either final by the user's will (CANCELLED) or Slurm's own to
    bring back (PREEMPTED, NODE_FAIL, PENDING).
    """
    return "requeue" if state in ("RUNNING", "TIMEOUT") else "leave"


def _failures_without_progress(now: Ended, past: Sequence[Ended]) -> list[Ended]:
    """The failures up to now, newest first, that all rest on the same newest checkpoint."""
    streak = [now]
    for each in reversed(past):
        if not each.failed or each.checkpoint_step != now.checkpoint_step:
            break
        streak.append(each)
    return streak


def _bad_hosts(history: Sequence[Ended], hosts: int, excluded: Sequence[str]) -> list[str]:
    """Hosts that failed or straggled repeatedly, the worst first, within the share of hosts
    that may be excluded.
    """
    if hosts < 2:
        return []
    failed = [each.host for each in history if each.failed]
    counts = Counter(
        host
        for host in [*failed, *(each.straggler for each in history)]
        if host and host not in excluded
    )
    room = max(1, int(hosts * MAX_EXCLUDED_SHARE)) - len(excluded)
    return [host for host, count in counts.most_common() if count >= HOST_FAILURES][
        : max(0, room)
    ]


def _kind(cause: str) -> str:
    """A cause without the numbers that differ from one failure to the next: addresses, process
    ids, times.
    """
    return re.sub(r"0x[0-9a-f]+|\d+", "#", cause)

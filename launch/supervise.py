"""What each task of a job does: run one rank, watch it, and draw the conclusion that all ranks
draw.

    task ──▶ child `python -m ausl_dist.train RUN` ──▶ report ──▶ decision of all ranks:
             again | requeue | leave | stop | done

1. a signal before the time limit or a preemption (SIGUSR2) and a termination (SIGTERM) are
   passed to the child, which saves with the others at a step boundary and ends; the job is then
   requeued, unless it was cancelled;
2. a child that fails is announced; all others then end within SETTLE_SECONDS + DUMP_SECONDS,
   and one that still hangs in a collective leaves the stacks of all its threads in its log;
3. failed ranks are started again where they are, from the newest checkpoint: a place in the
   queue is not given up for one lost process. Hosts that fail repeatedly are given back, and a
   run that fails the same way again and again is stopped.

A child never outlives its task (the kernel ends it), and the task of an older attempt that was
thought dead cannot do harm: its child finds itself fenced by the newer attempt.
"""

import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ausl_dist.observe.heartbeat import read_heartbeats
from ausl_dist.observe.history import append_event
from ausl_dist.observe.thresholds import straggler
from ausl_dist.run_folder import log_file, newest_whole_step
from ausl_dist.train.exits import Exit
from launch import scheduler
from launch.attempts import (
    Attempt,
    append_history,
    ended,
    excluded_hosts,
    last_step,
    read_history,
)
from launch.child import TRAINER, abort, rank_environment, start_rank
from launch.network import interface_towards, is_free, rendezvous_port
from launch.spare import STANDBY_SECONDS, Spare
from launch.verdict import Decision, End, Ended, RankReport, after_termination, blame, decide

POLL_SECONDS = 0.25
# after another rank's failure, for a rank to fail by itself with its own reason
SETTLE_SECONDS = 10.0
SAVE_SECONDS = 20.0  # the same when all were told to end and may be saving
DUMP_SECONDS = 5.0  # for writing stacks, then it is killed
REPORT_SECONDS = 45.0  # after which a rank without a report counts as silent: its host is gone
# after which any rank may decide in place of rank 0: it waits for reports, and for Slurm's
# answer
DEPUTY_SECONDS = 75.0
END_SECONDS = 120.0  # for Slurm to end a task whose job was requeued


class JobFailed(RuntimeError):
    """The run cannot go on by itself; the message says why and what to do."""


@dataclass(frozen=True)
class Place:
    """A task's place in its job."""

    job: str
    restart: int  # how often Slurm has requeued the job
    rank: int
    local_rank: int
    hosts: tuple[str, ...]
    ranks_per_host: int

    @property
    def ranks(self) -> dict[int, str]:
        """The host of every rank: tasks are laid out host by host."""
        return {
            rank: self.hosts[rank // self.ranks_per_host]
            for rank in range(len(self.hosts) * self.ranks_per_host)
        }

    def environment(self, again: int) -> dict[str, str]:
        """The variables by which a rank knows its place, the same as on one machine."""
        port = rendezvous_port(self.job, self.restart, again)
        threads = os.environ.get("SLURM_CPUS_PER_TASK", "1")
        variables = rank_environment(
            self.rank, self.local_rank, len(self.ranks), self.hosts[0], port, threads
        )
        if "GLOO_SOCKET_IFNAME" not in os.environ:
            variables["GLOO_SOCKET_IFNAME"] = interface_towards(self.hosts[0])
        return variables


@dataclass
class Signals:
    """The signals that this task has received, to be acted on in its loop."""

    user: bool = False
    terminate: bool = False
    passed_on: set[int] = field(default_factory=set)

    def install(self) -> "Signals":
        signal.signal(signal.SIGUSR2, self._note)
        signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.user |= number == signal.SIGUSR2
        self.terminate |= number == signal.SIGTERM

    @property
    def any(self) -> bool:
        return self.user or self.terminate


def supervise(
    run_folder: Path, place: Place, module: str = TRAINER, *, stand_by: bool = True
) -> None:
    """Run one rank of the job until the run is done; raises JobFailed where it cannot go on,
    and SystemExit where the job ends here. With `stand_by`, a second process has its code
    loaded for when the rank fails.
    """
    signals = Signals().install()
    # a rank ended for its stacks leaves no core file of its memory's size
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Spare(run_folder, module=module, wanted=stand_by) as spare:
        _supervise(run_folder, place, module, signals, spare)


def _supervise(
    run_folder: Path, place: Place, module: str, signals: Signals, spare: Spare
) -> None:
    for again in itertools.count():
        attempt = Attempt(run_folder, f"{place.job}-{place.restart}-{again}")
        report = _run_rank(run_folder, place, attempt, signals, again, module, spare)
        attempt.report(report)
        decision = _conclude(run_folder, place, attempt, signals)
        _say(f"attempt {attempt.number}: {decision.action}: {decision.why}")
        if decision.action == "done":
            return
        if decision.action == "stop":
            raise JobFailed(
                f"{decision.why}\nwhen this is mended, go on with: "
                f"python -m launch resume {run_folder}"
            )
        if decision.action == "again":
            # A signal cuts the wait short: the next child gets it, and everything takes its
            # usual course.
            _sleep_until(time.monotonic() + decision.delay_seconds, lambda: signals.any)
            continue
        if decision.action == "requeue":
            # Slurm ends all tasks of a job that it requeues
            _sleep_until(time.monotonic() + END_SECONDS, lambda: signals.terminate)
        sys.exit(1)


def _run_rank(
    run_folder: Path,
    place: Place,
    attempt: Attempt,
    signals: Signals,
    again: int,
    module: str,
    spare: Spare,
) -> RankReport:
    """Start this rank's child and wait for its end."""
    host = place.ranks[place.rank]
    environment = place.environment(again)
    if place.rank == 0 and not is_free(int(environment["MASTER_PORT"])):
        attempt.announce_failure()
        return RankReport(
            place.rank,
            host,
            "failed",
            f"port {environment['MASTER_PORT']} is taken",
            time.time(),
        )
    log_path = log_file(run_folder, place.rank)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(log_path, "ab") as log:
        log.write(f"--- attempt {attempt.number} ({attempt.name}) on {host} ---\n".encode())
        log.flush()
        child = spare.become(environment) or start_rank(
            run_folder, environment, log, module=module
        )
        _say(f"rank {place.rank} is process {child.pid}, its log {log_path}")
        end, cause = _watch(child, attempt, signals, lambda: spare.stand_by(environment, log))
    if end not in ("finished", "saved"):
        attempt.announce_failure()
    why = cause or (last_line(log_path) if end in ("failed", "diverged") else "")
    return RankReport(place.rank, host, end, why, time.time())


def _watch(
    child: subprocess.Popen[bytes],
    attempt: Attempt,
    signals: Signals,
    stand_by: Callable[[], None],
) -> tuple[End, str]:
    """Wait for the child's end, passing signals on; a child that outlives another rank's
    failure is ended with its stacks in its log. `stand_by` is called once it trains.
    """
    deadline = float("inf")
    settled = time.monotonic() + STANDBY_SECONDS
    ended_by_us = False
    while child.poll() is None:
        for number, received in (
            (signal.SIGUSR2, signals.user),
            (signal.SIGTERM, signals.terminate),
        ):
            if received and number not in signals.passed_on:
                signals.passed_on.add(number)
                child.send_signal(number)
        now = time.monotonic()
        if deadline == float("inf") and attempt.failure_announced():
            deadline = now + (SAVE_SECONDS if signals.any else SETTLE_SECONDS)
        if now > settled and deadline == float("inf"):
            stand_by()
        if now > deadline and not ended_by_us:
            ended_by_us, deadline = True, now + DUMP_SECONDS
            abort(child)
        elif now > deadline:
            child.kill()
        time.sleep(POLL_SECONDS)
    if ended_by_us:
        return (
            "hung",
            "did not end by itself when another rank had failed; its log holds the stacks of its "
            "threads",
        )
    # Slurm may signal every process of a step: the second of two signals can meet a child that
    # is already on its way out.
    if signals.any and -child.returncode in (signal.SIGUSR2, signal.SIGTERM):
        return "interrupted", ""
    return _meaning(child.returncode)


def _meaning(code: int) -> tuple[End, str]:
    if code == Exit.DONE:
        return "finished", ""
    if code == Exit.PREEMPTED:
        return "saved", ""
    if code in (Exit.FENCED, Exit.DIVERGED):
        return "fenced" if code == Exit.FENCED else "diverged", ""
    return "failed", f"killed by {signal.Signals(-code).name}" if code < 0 else ""


def _conclude(run_folder: Path, place: Place, attempt: Attempt, signals: Signals) -> Decision:
    """Wait for the other ranks' reports and for the one decision; make it where nobody has."""
    started = time.monotonic()
    while True:
        decision = attempt.decision()
        if decision is not None:
            return decision
        reports = attempt.reports()
        waited = time.monotonic() - started
        failed = any(report.end not in ("finished", "saved") for report in reports)
        patience = SAVE_SECONDS + DUMP_SECONDS if signals.any else REPORT_SECONDS
        complete = len(reports) == len(place.ranks) or (failed and waited > patience)
        if complete and (place.rank == 0 or waited > DEPUTY_SECONDS):
            return _decide(run_folder, place, attempt, signals, reports)
        time.sleep(POLL_SECONDS)


def _decide(
    run_folder: Path,
    place: Place,
    attempt: Attempt,
    signals: Signals,
    reports: list[RankReport],
) -> Decision:
    first = blame(reports, place.ranks)
    told = signals.any and first.end in ("failed", "hung", "silent")
    slow = straggler(read_heartbeats(run_folder))
    now = Ended(
        end="interrupted" if told else first.end,
        step=last_step(run_folder),
        checkpoint_step=newest_whole_step(run_folder),
        cause=first.cause,
        host=first.host,
        straggler=slow.node if slow else "",
    )
    history = read_history(run_folder)
    excluded = excluded_hosts(history)
    decision = decide(
        first, now, [ended(line) for line in history], hosts=len(place.hosts), excluded=excluded
    )
    if decision.action not in ("done", "leave"):
        decision = _as_slurm_sees_it(place, signals, decision)
    if not attempt.decide_once(decision):
        made = attempt.decision()
        assert made is not None
        return made
    append_history(attempt, now, decision)
    append_event(
        run_folder,
        "launcher",
        {
            "time": time.time(),
            "kind": "attempt_ended",
            "attempt": attempt.number,
            "why": decision.why,
        },
    )
    if decision.action == "requeue" and not scheduler.requeue(
        place.job, place.restart, decision.exclude
    ):
        _say("the job has been started elsewhere meanwhile: this task ends")
    return decision


def _as_slurm_sees_it(place: Place, signals: Signals, decision: Decision) -> Decision:
    """Fit the decision to what Slurm does with the job: it may be cancelled, or already started
    elsewhere without us.
    """
    try:
        # Only Slurm knows whether a task that was told to end is to come back: worth waiting
        # for until it ends the task by force.
        now = scheduler.standing(place.job, scheduler.PATIENCE_SECONDS if signals.any else 0.0)
    except scheduler.SchedulerError as error:
        if signals.any:
            raise
        # harmless: what starts here is fenced off where the job runs elsewhere
        _say(f"deciding alone: {error}")
        return decision
    if now.restarts != place.restart:
        return Decision("leave", f"Slurm has started the job elsewhere; {decision.why}")
    if not signals.any:
        return (
            decision
            if now.state == "RUNNING"
            else Decision("leave", f"Slurm ends the job ({now.state}); {decision.why}")
        )
    if after_termination(now.state) == "leave":
        return Decision("leave", f"Slurm ends the job ({now.state}); {decision.why}")
    # An old state is better than none: requeued whatever became of its ranks.
    return Decision(
        "requeue",
        f"{'told to save' if signals.user else f'told to end ({now.state})'}; {decision.why}",
        decision.exclude,
    )


def last_line(path: Path, tail_bytes: int = 8192) -> str:
    """The last line of a log that says something, cut to a readable length."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - tail_bytes))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line[:300] for line in reversed(lines) if line), "")


def _sleep_until(deadline: float, done: Callable[[], bool]) -> None:
    while time.monotonic() < deadline and not done():
        time.sleep(POLL_SECONDS)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

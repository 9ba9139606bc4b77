"""What is asked of Slurm, by its own commands: the state of jobs, requeue, cancel. Every call
is bounded in time.

A controller that is being restarted does not answer for a while: calls that must not be lost
are tried again until PATIENCE_SECONDS.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CALL_SECONDS = 30.0
STANDING_SECONDS = 10.0  # all ranks wait for this answer before they start again
PATIENCE_SECONDS = 300.0
RETRY_SECONDS = 2.0

# A job that squeue lists in one of these is passing through, or will be again: not an end.
NOT_FINAL = {
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "REQUEUE_HOLD",
    "SIGNALING",
    "STAGE_OUT",
}
UNKNOWN = "UNKNOWN"


class SchedulerError(OSError):
    """Slurm refused or did not answer; the message is its own."""


class Unreachable(SchedulerError):
    """The controller did not answer: it may do so later."""


@dataclass(frozen=True)
class JobState:
    """One job as Slurm sees it."""

    job: str
    state: str  # RUNNING, PENDING, COMPLETED, ...; UNKNOWN where nobody knows the job
    reason: str = ""  # why it waits
    nodes: str = ""
    left: str = ""  # time left before its limit, as squeue writes it

    @property
    def alive(self) -> bool:
        """Whether it runs or will run: NODE_FAIL and PREEMPTED in sacct mean nothing while
        squeue lists the job.
        """
        return self.state in NOT_FINAL


@dataclass(frozen=True)
class Standing:
    """A job as the controller sees it while its processes run or are being ended."""

    state: str  # TIMEOUT where its time limit is why it ends
    restarts: int  # how often it has been requeued


def available() -> bool:
    """Whether this machine has Slurm's commands."""
    return shutil.which("sbatch") is not None


def job_state(job: str) -> JobState:
    """State of a job or of one array element (`12_3`).

    From squeue while it is queued, from the controller for the minutes that it remembers an
    ended job, from sacct afterwards: the accounting lags behind, by minutes where its data base
    is busy.
    """
    # An invalid id is how squeue says that a job has left the queue.
    lines = _call(
        ["squeue", "--noheader", "--jobs", job, "--format=%T|%r|%N|%L"],
        accept_failure="Invalid job id",
    ).splitlines()
    if lines:
        state, reason, nodes, left = lines[0].split("|", 3)
        # While a requeued job's processes end, squeue says COMPLETING and sacct says what it
        # was.
        return JobState(job, state, "" if reason == "None" else reason, nodes, left)
    fields = _shown(job, CALL_SECONDS)
    if fields:
        return JobState(
            job,
            fields.get("JobState", UNKNOWN),
            nodes=fields.get("NodeList", "").removesuffix("(null)"),
        )
    # A site without accounting has no sacct to ask: whatever it answers, the job is then simply
    # gone from the queue.
    lines = _call(
        ["sacct", "--noheader", "-X", "--parsable2", "--jobs", job, "--format=State,NodeList"],
        accept_failure="",
    ).splitlines()
    if not lines:
        return JobState(job, UNKNOWN)
    state, nodes = lines[-1].split("|", 1)
    # "CANCELLED by 0" is CANCELLED
    return JobState(job, (state.split() or [UNKNOWN])[0], nodes=nodes)


def standing(job: str, patience_seconds: float = 0.0) -> Standing:
    """How the controller sees a job that the caller is a part of; raises Unreachable where it
    does not answer for so long.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fields = _shown(job, STANDING_SECONDS)
            break
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
    # While its processes end, a cancelled job and one that timed out are both COMPLETING.
    state = (
        "TIMEOUT" if fields.get("Reason") == "TimeLimit" else fields.get("JobState", UNKNOWN)
    )
    return Standing(state, int(fields.get("Restarts", 0)))


def requeue(job: str, restart: int, exclude: Sequence[str] = ()) -> bool:
    """Put a job back into the queue, on other hosts than `exclude`; its processes, the caller
    among them, are ended by Slurm.

    False where it is no longer at its start number `restart`: the caller is an orphan, and the
    job runs elsewhere. While the controller does not answer, this waits for it up to
    PATIENCE_SECONDS.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if standing(job).restarts != restart:
                return False
            _call(["scontrol", "requeue", job])
            break
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        except SchedulerError as error:
            raise SchedulerError(
                f"this cluster does not requeue jobs ({error}): go on by `python -m launch resume`"
            ) from error
    if exclude:
        # Allowed for a waiting job only, which it is from now on; the caller lives for KillWait
        # yet.
        _call(["scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(exclude)}"])
    return True


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs for good."""
    _call(["scancel", *jobs])


def host_names(node_list: str) -> list[str]:
    """Expand `gpu[01-03]` into names."""
    return _call(["scontrol", "show", "hostnames", node_list]).split() if node_list else []


def _shown(job: str, timeout_seconds: float) -> dict[str, str]:
    """What the controller shows of a job, by field; nothing where it does not know the job."""
    command = ["scontrol", "--oneliner", "show", "job", job]
    text = _call(command, accept_failure="Invalid job id", timeout_seconds=timeout_seconds)
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def _call(
    command: list[str], accept_failure: str | None = None, timeout_seconds: float = CALL_SECONDS
) -> str:
    """Output of a command; a failure whose message holds `accept_failure` gives an empty output
    instead of an error.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            preexec_fn=_ignore_signals_to_the_job,
        )
    except FileNotFoundError as error:
        raise SchedulerError(
            f"{command[0]} is not here: this needs a host with Slurm's commands"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(
            f"`{' '.join(command)}`: no answer within {timeout_seconds:.0f} s"
        ) from error
    if done.returncode == 0:
        return done.stdout
    if accept_failure is not None and accept_failure in done.stderr:
        return ""
    kind = Unreachable if "contact slurm controller" in done.stderr else SchedulerError
    raise kind(
        f"`{' '.join(command)}`: {done.stderr.strip() or f'exit code {done.returncode}'}"
    )


def _ignore_signals_to_the_job() -> None:
    """Slurm signals all processes of a job that it requeues, the command that sees to the
    requeue among them.
    """
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)

"""How a run goes: from its folder, from Slurm, and from what its ranks last said of themselves.

    metrics.jsonl, ranks/, checkpoints/, supervision/ ─┐
    squeue, sacct ─────────────────────────────────────┴─▶ Status ──▶ a table

What is wrong, in words (observe/diagnosis.py), stands first.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ausl_dist.files import as_ours
from ausl_dist.observe.diagnosis import findings
from ausl_dist.observe.heartbeat import Heartbeat, read_heartbeats, slowest_rank
from ausl_dist.observe.history import last_metrics
from ausl_dist.observe.thresholds import is_silent
from ausl_dist.observe.wording import duration
from ausl_dist.run_folder import MANIFEST_FILE, checkpoint_folder, log_file, newest_whole_step
from launch import scheduler, slurm
from launch.attempts import excluded_hosts, read_history
from launch.prepare import read_cluster
from launch.supervise import last_line

WATCH_SECONDS = 5.0
START_SECONDS = 600.0  # for processes to say their first word


@dataclass(frozen=True)
class Status:
    """A run at one moment."""

    rows: tuple[tuple[str, str], ...]
    alive: bool  # it runs or waits: worth looking again


def look(folder: Path, now: float) -> Status:
    """Gather what is known of the run in `folder` at Unix time `now`.

    Raises SettingsError where it is no run folder, ValueError where its files are not ours.
    """
    with as_ours(folder):
        return _look(folder, now)


def _look(folder: Path, now: float) -> Status:
    cluster = read_cluster(folder)
    beats = read_heartbeats(folder)
    history = read_history(folder)
    job = _job(folder) if cluster["scheduler"] == "slurm" else None
    if job:
        alive = job.alive
    elif beats:
        alive = any(beat.standing == "running" and not is_silent(beat, now) for beat in beats)
    else:
        alive = _may_be_starting(folder, now)
    rows = [("run", str(folder)), ("state", _state(folder, job, beats, alive, now))]
    rows += [
        ("trouble", f"{finding.kind}: {finding.text}") for finding in findings(folder, now)
    ]
    rows += _progress(folder, beats)
    rows += _ranks(beats, now, alive)
    rows += _checkpoint(folder, now)
    rows += _attempts(beats, history)
    return Status(tuple(row for row in rows if row[1]), alive)


def show(folder: Path, *, watch: bool) -> int:
    """Print the status, with `watch` again and again until the run has ended."""
    from rich.console import Console
    from rich.live import Live

    console = Console(markup=False)  # words in brackets are no colours
    status = look(folder, time.time())
    if not watch:
        console.print(_table(status))
        return 0
    with Live(_table(status), console=console, auto_refresh=False) as live:
        while status.alive:
            time.sleep(WATCH_SECONDS)
            status = look(folder, time.time())
            live.update(_table(status), refresh=True)
    return 0


def _table(status: Status) -> Any:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in status.rows:
        table.add_row(name, value)
    return table


def _job(folder: Path) -> scheduler.JobState | None:
    jobs = slurm.job_ids(folder)
    return scheduler.job_state(jobs[-1]) if jobs else None


def _state(
    folder: Path,
    job: scheduler.JobState | None,
    beats: list[Heartbeat],
    alive: bool,
    now: float,
) -> str:
    if job is not None:
        reason = f" ({job.reason})" if job.reason else ""
        where = f" on {job.nodes}" if job.nodes else ""
        left = f", {job.left} to its time limit" if job.left and job.state == "RUNNING" else ""
        return f"{job.state}{reason}, job {job.job}{where}{left}"
    if not beats:
        return _before_the_first_beat(folder, now)
    failed = next((beat for beat in beats if beat.standing == "failed"), None)
    if failed:
        return f"failed: {failed.who}: {failed.error}"
    if alive and not any(beat.steps_done for beat in beats):
        first = min(beats, key=lambda beat: beat.rank)
        waited = duration(now - first.phase_since)
        return f"starting: {len(beats)} ranks are there, rank {first.rank} in {first.phase} for {waited}"
    if alive:
        return "running"
    return (
        "ended"
        if all(beat.standing == "ended" for beat in beats)
        else "killed: its ranks fell silent without an end"
    )


def _before_the_first_beat(folder: Path, now: float) -> str:
    """What the log of rank 0, opened when its process starts, tells of a run without
    heartbeats.
    """
    log = log_file(folder, 0)
    if not log.exists():
        return "not started"
    said = last_line(log)
    if said.startswith("error:"):
        return f"failed before its first step: {said}"
    waited = duration(now - log.stat().st_mtime)
    if not _may_be_starting(folder, now):
        return f"did not start: no word from its processes for {waited}; their log: {log}"
    return f"starting for {waited}: its processes load the code and meet; their log: {log}"


def _may_be_starting(folder: Path, now: float) -> bool:
    log = log_file(folder, 0)
    if not log.exists() or now - log.stat().st_mtime > START_SECONDS:
        return False
    return not last_line(log).startswith("error:")


def _progress(folder: Path, beats: list[Heartbeat]) -> list[tuple[str, str]]:
    line = last_metrics(folder)
    if line is None:
        return [("step", "none yet")]
    first = beats[0] if beats else None
    total = first.total_steps if first else None
    done = first.steps_done if first else int(line["step"]) + 1
    rows = [("step", f"{done:,} of {total:,}" if total else f"{done:,}")]
    if first and first.step_seconds > 0 and first.seconds_left is not None:
        left = duration(first.seconds_left)
        rows.append(("rate", f"{1 / first.step_seconds:.2f} steps/s, {left} left"))
        rows.append(("waits for data", f"{first.data_share:.0%} of a step"))
    if line.get("loss") is not None:
        rows.append(("loss", f"{line['loss']:.4f}"))
    return rows


def _ranks(beats: list[Heartbeat], now: float, alive: bool) -> list[tuple[str, str]]:
    rows = []
    slowest = slowest_rank(beats)
    if slowest:
        rows.append(
            ("slowest", f"{slowest.who}: {slowest.own_seconds:.3f} s of its own a step")
        )
    silent = [beat for beat in beats if alive and is_silent(beat, now)]
    rows += [
        ("silent", f"{beat.who} for {duration(beat.silent_seconds(now))}, in {beat.phase}")
        for beat in silent[:4]
    ]
    corrupt: dict[str, int] = {}
    for beat in beats:
        for reason, count in (beat.counts.get("corrupt") or {}).items():
            corrupt[reason] = corrupt.get(reason, 0) + int(count)
    rows.append(
        ("corrupt clips", ", ".join(f"{count} {reason}" for reason, count in corrupt.items()))
    )
    return rows


def _checkpoint(folder: Path, now: float) -> list[tuple[str, str]]:
    step = newest_whole_step(folder, sums=False)  # asked for every few seconds
    manifest = checkpoint_folder(folder, step) / MANIFEST_FILE
    return [
        (
            "checkpoint",
            f"step {step:,}, {duration(now - manifest.stat().st_mtime)} ago"
            if manifest.exists()
            else "none yet",
        )
    ]


def _attempts(beats: list[Heartbeat], history: list[dict[str, Any]]) -> list[tuple[str, str]]:
    rows = [("attempt", str(beats[0].attempt))] if beats else []
    restarts = [line for line in history if line["action"] in ("again", "requeue")]
    if restarts:
        rows.append(("restarts", f"{len(restarts)}, the last: {restarts[-1]['why']}"))
    if history and history[-1]["action"] == "stop":
        rows.append(("stopped", history[-1]["why"]))
    rows.append(("kept out", ", ".join(excluded_hosts(history))))
    return rows

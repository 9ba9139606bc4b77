"""What ails a run, in words: from what its ranks last said, and how long ago.

    ranks/*.json, events/*.jsonl, the clock ──▶ findings(run_folder)
        ──▶ "rank 1 (node7) holds the others up: 0.41 s of its own a step, …"

The worst comes first. A consequence is not told beside its cause: when a rank was killed, the
others' errors are of no interest, and when data do not come, it is no news that no step is
made.
"""

import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ausl_dist.json_lines import read_log_lines
from ausl_dist.observe.heartbeat import Heartbeat, read_heartbeats
from ausl_dist.observe.history import Line, read_events
from ausl_dist.observe.thresholds import SLOW_FACTOR, is_silent
from ausl_dist.observe.throughput import culprit
from ausl_dist.observe.wording import counted, duration
from ausl_dist.run_folder import FIRST_ATTEMPT, LEDGER_FILE

Kind = Literal[
    "rank down",
    "failed",
    "stuck",
    "starved",
    "slow rank",
    "corrupt",
    "collapse",
    "not finite",
    "checkpoint old",
    "disk",
    "restarted",
]

STUCK_SECONDS = 60.0  # and twenty steps
WAITS_SECONDS = 30.0  # for one batch
STARVED_SHARE = 0.1
CHECKPOINT_SECONDS = 2 * 3600.0
DISK_SHARE = 0.05
RANKS_NAMED = 4


@dataclass(frozen=True)
class Diagnosis:
    """One thing that is wrong, as a sentence."""

    kind: Kind
    text: str


def findings(run_folder: Path | str, now: float | None = None) -> list[Diagnosis]:
    """What is wrong with a run, running or dead; empty where nothing is, or where no rank has
    spoken yet.
    """
    run_folder = Path(run_folder)
    now = time.time() if now is None else now
    beats = read_heartbeats(run_folder)
    events = read_events(run_folder)
    found = _dead(beats, now)
    if any(beat.standing == "running" for beat in beats) and not found:
        found += _held_up(beats, now) or _slow(beats) + _starved(beats)
        found += _unsaved(beats, events, now) + _disk(run_folder)
    return found + _learning(beats, events) + _corrupt(run_folder, beats) + _restarts(events)


def _dead(beats: list[Heartbeat], now: float) -> list[Diagnosis]:
    """Ranks that fell silent; where there are none, ranks that failed: the first of them, the
    rest followed.
    """
    silent = [
        beat
        for beat in beats
        if is_silent(beat, now) or (beat.standing == "running" and _is_gone(beat))
    ]
    if silent:
        which = (
            f"at step {max(beat.steps_done for beat in silent)}, "
            f"{duration(now - max(beat.time for beat in silent))} ago"
        )
        return [
            Diagnosis(
                "rank down",
                f"{_names(silent)} fell silent without an end {which}: killed, or the host is gone",
            )
        ]
    failed = sorted(
        (beat for beat in beats if beat.standing == "failed"), key=lambda beat: beat.time
    )
    if not failed:
        return []
    first = failed[0]
    others = f"; {_names(failed[1:])} followed" if len(failed) > 1 else ""
    return [
        Diagnosis(
            "failed",
            f"{first.who} failed at step {first.steps_done}: "
            f"{first.error or 'it does not say why'}{others}",
        )
    ]


def _is_gone(beat: Heartbeat) -> bool:
    """Whether the rank's process has ended, where that can be seen: on its own host."""
    if beat.node != socket.gethostname():
        return False
    try:
        os.kill(beat.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process: it lives
        return False
    return False


def _held_up(beats: list[Heartbeat], now: float) -> list[Diagnosis]:
    """A run that makes no step, and where its ranks stand."""
    waiting = [
        beat
        for beat in beats
        if beat.phase == "data" and now - beat.phase_since > WAITS_SECONDS
    ]
    if waiting:
        longest = max(now - beat.phase_since for beat in waiting)
        retries = sum(int(beat.counts.get("retries", 0)) for beat in beats)
        storage = (
            f"; {counted(retries, 'read')} from storage had to be repeated" if retries else ""
        )
        return [
            Diagnosis(
                "starved",
                f"{_names(waiting)}: waiting for one batch of data for "
                f"{duration(longest)}{storage}",
            )
        ]
    behind = [
        beat
        for beat in beats
        if now - beat.last_step_at > max(STUCK_SECONDS, 20 * beat.step_seconds)
        and beat.step_seconds > 0
    ]
    if not behind:
        return []
    elsewhere = [beat for beat in behind if beat.phase != "step"]
    inside = "all ranks are inside the step, in computation or in a collective"
    where = f"{_names(elsewhere)}: in {elsewhere[0].phase}" if elsewhere else inside
    return [
        Diagnosis(
            "stuck",
            f"no step for {duration(now - max(beat.last_step_at for beat in beats))}: {where}",
        )
    ]


def _slow(beats: list[Heartbeat]) -> list[Diagnosis]:
    timed = sorted(beat.own_seconds for beat in beats if beat.own_seconds > 0)
    if len(timed) < 2:
        return []
    usual = timed[len(timed) // 10]  # of the fastest tenth, as the alert has it
    slow = [
        beat
        for beat in beats
        if beat.own_seconds > SLOW_FACTOR * usual
        and beat.own_seconds - usual > 0.1 * beat.step_seconds
    ]
    findings = []
    for beat in sorted(slow, key=lambda beat: -beat.own_seconds)[:RANKS_NAMED]:
        stage = culprit(beat.blocked)
        data = (
            f"; it waits for data {beat.data_share:.0%} of the time, for {stage}"
            if stage and beat.data_share > STARVED_SHARE
            else ""
        )
        text = (
            f"{beat.who} holds the others up: {beat.own_seconds:.2f} s of its own a step, "
            f"the others {usual:.2f} s{data}"
        )
        findings.append(Diagnosis("slow rank", text))
    return findings


def _starved(beats: list[Heartbeat]) -> list[Diagnosis]:
    shares = sorted(beat.data_share for beat in beats if beat.step_seconds > 0)
    if not shares or shares[len(shares) // 10] <= STARVED_SHARE:
        return []
    hungriest = max(beats, key=lambda beat: beat.data_share)
    stage = culprit(hungriest.blocked)
    stages = f", for {stage}" if stage else ""
    return [
        Diagnosis(
            "starved",
            f"training waits for data {hungriest.data_share:.0%} of the time{stages} "
            f"({hungriest.who})",
        )
    ]


def _learning(beats: list[Heartbeat], events: list[Line]) -> list[Diagnosis]:
    found = []
    for objective in sorted({name for beat in beats for name in beat.collapsed}):
        noted = [
            event
            for event in events
            if event.get("kind") == "collapse" and event.get("objective") == objective
        ]
        rank = noted[-1].get("effective_rank") if noted else None
        detail = (
            f": the effective rank of its features is {rank:.1f}"
            if isinstance(rank, float)
            else ""
        )
        found.append(Diagnosis("collapse", f"objective {objective} has collapsed{detail}"))
    skipped = max((beat.skipped for beat in beats), default=0)
    if skipped:
        last = max(
            (int(event.get("step", -1)) for event in events if event.get("kind") == "skipped"),
            default=-1,
        )
        text = (
            f"{counted(skipped, 'step')} left out because loss or gradient was not finite, "
            f"the last one step {last}"
        )
        found.append(Diagnosis("not finite", text))
    return found


def _corrupt(run_folder: Path, beats: list[Heartbeat]) -> list[Diagnosis]:
    total: dict[str, int] = {}
    for beat in beats:
        for reason, count in (beat.counts.get("corrupt") or {}).items():
            total[reason] = total.get(reason, 0) + int(count)
    examples = corrupt_examples(run_folder, per_reason=1)
    found = []
    for reason, count in sorted(total.items()):
        example = examples.get(reason, [{}])[0]
        detail = (
            f"; for instance {place_of(example)}: {example.get('detail', '')}"
            if example
            else ""
        )
        found.append(
            Diagnosis(
                "corrupt", f"{counted(count, 'clip')} could not be used ({reason}){detail}"
            )
        )
    return found


def corrupt_examples(run_folder: Path, per_reason: int) -> dict[str, list[dict[str, Any]]]:
    """The first lines of the run's ledger for each reason."""
    examples: dict[str, list[dict[str, Any]]] = {}
    for line in read_log_lines(run_folder / LEDGER_FILE):
        kept = examples.setdefault(str(line.get("reason", "?")), [])
        if len(kept) < per_reason:
            kept.append(line)
    return examples


def place_of(line: dict[str, Any]) -> str:
    """Where the clip of a ledger line lies."""
    return f"{line.get('corpus', '?')}/{line.get('place', '?')}, clip {line.get('clip', '?')}"


def _unsaved(beats: list[Heartbeat], events: list[Line], now: float) -> list[Diagnosis]:
    attempt = max(beat.attempt for beat in beats)
    marks = [
        float(event["time"])
        for event in events
        if event.get("kind") in ("checkpoint", "started") and event.get("attempt") == attempt
    ]
    if not marks or now - max(marks) <= CHECKPOINT_SECONDS:
        return []
    age = duration(now - max(marks))
    return [
        Diagnosis(
            "checkpoint old",
            f"nothing has been saved for {age}: a kill now would lose the steps since then",
        )
    ]


def _disk(run_folder: Path) -> list[Diagnosis]:
    disk = shutil.disk_usage(run_folder)
    if disk.free >= DISK_SHARE * disk.total:
        return []
    return [
        Diagnosis(
            "disk",
            f"{disk.free / disk.total:.1%} of the run folder's disk is free: "
            "the next checkpoint may not fit",
        )
    ]


def _restarts(events: list[Line]) -> list[Diagnosis]:
    started = {event.get("attempt") for event in events if event.get("kind") == "started"}
    restarts = started - {FIRST_ATTEMPT}
    if not restarts:
        return []
    reasons = [
        str(event["why"])
        for event in events
        if event.get("kind") == "attempt_ended" and event.get("why")
    ]
    why = f", the last time because {reasons[-1]}" if reasons else ""
    return [
        Diagnosis(
            "restarted",
            "the run was started again "
            f"{'once' if len(restarts) == 1 else f'{len(restarts)} times'}{why}",
        )
    ]


def _names(beats: list[Heartbeat]) -> str:
    named = ", ".join(beat.who for beat in beats[:RANKS_NAMED])
    return (
        named if len(beats) <= RANKS_NAMED else f"{named} and {len(beats) - RANKS_NAMED} more"
    )

"""RUN_FOLDER/ranks/rank-00003.json: what each rank last said of itself, rewritten every few
seconds.

It outlives the rank. `status` and the report read it to tell a rank that is slow from those
that wait for it, one that was killed from one that ended, and where a rank that hangs is
hanging; rank 0 reads it to name the slowest rank.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ausl_dist.files import read_json, write_json
from ausl_dist.observe.state import RankState
from ausl_dist.run_folder import FIRST_ATTEMPT, RANKS_FOLDER

MAX_BYTES = 1 << 20

Standing = Literal["running", "ended", "failed"]


@dataclass(frozen=True)
class Heartbeat:
    """One rank at one moment; times are Unix seconds."""

    run: str
    rank: int
    world_size: int
    node: str
    attempt: int  # from 1
    pid: int
    time: float
    standing: Standing
    steps_done: int
    total_steps: int
    last_step_at: float
    phase: str  # what the loop was doing, `step` where it does not say
    phase_since: float
    interval_seconds: float  # until the next heartbeat is due
    step_seconds: float = 0.0
    seconds_left: float | None = None  # of the run; None before the first step
    own_seconds: float = 0.0
    data_share: float = 0.0
    # seconds by stage during the last steps
    blocked: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)  # since the start of the attempt
    skipped: int = 0  # steps left out since then
    collapsed: Sequence[str] = ()  # objectives that training calls collapsed now
    error: str = ""

    @property
    def who(self) -> str:
        return f"rank {self.rank} ({self.node})"

    def silent_seconds(self, now: float) -> float:
        """For how long a heartbeat is overdue; 0 for a rank that ended."""
        return (
            max(now - self.time - self.interval_seconds, 0.0)
            if self.standing == "running"
            else 0.0
        )


def heartbeat_of(
    state: RankState, standing: Standing, interval_seconds: float, error: str = ""
) -> Heartbeat:
    """Take a rank's state as it is now."""
    identity, last, (phase, since) = state.identity, state.last, state.phase
    return Heartbeat(
        run=identity.run,
        rank=identity.rank,
        world_size=identity.world_size,
        node=identity.node,
        attempt=identity.attempt,
        pid=os.getpid(),
        time=state.clock(),
        standing=standing,
        steps_done=state.steps_done,
        total_steps=state.total_steps,
        last_step_at=state.last_at,
        phase=phase,
        phase_since=since,
        interval_seconds=interval_seconds,
        step_seconds=state.window.step_seconds,
        seconds_left=state.left.seconds,
        own_seconds=state.window.own_seconds,
        data_share=state.window.share("data"),
        blocked=state.window.blocked,
        counts={} if last is None else last.counts,
        skipped=state.skipped,
        collapsed=state.collapsed,
        error=error[:4000],
    )


def write_heartbeat(run_folder: Path, heartbeat: Heartbeat) -> None:
    write_json(
        run_folder / RANKS_FOLDER / f"rank-{heartbeat.rank:05d}.json",
        dataclasses.asdict(heartbeat),
    )


def read_heartbeats(run_folder: Path | str) -> list[Heartbeat]:
    """The ranks of the newest attempt that has spoken, in order of rank."""
    beats = [
        _read(path) for path in sorted((Path(run_folder) / RANKS_FOLDER).glob("rank-*.json"))
    ]
    newest = max((beat.attempt for beat in beats), default=FIRST_ATTEMPT)
    return [beat for beat in beats if beat.attempt == newest]


def slowest_rank(beats: list[Heartbeat]) -> Heartbeat | None:
    """The rank with the most time of its own a step; None while fewer than two ranks have made
    a step.
    """
    timed = [beat for beat in beats if beat.own_seconds > 0]
    return max(timed, key=lambda beat: beat.own_seconds) if len(timed) > 1 else None


def _read(path: Path) -> Heartbeat:
    values = read_json(path, MAX_BYTES)
    known = {f.name for f in dataclasses.fields(Heartbeat)}
    try:
        return Heartbeat(**{name: value for name, value in values.items() if name in known})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a heartbeat ({error})") from error

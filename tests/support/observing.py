"""What the tests of this folder share: a rank with a clock of its own, and records to feed it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ausl_dist.observe.observer import Observer
from ausl_dist.observe.record import StepRecord
from ausl_dist.observe.settings import ExporterSettings, ObserveSettings
from ausl_dist.observe.state import RankIdentity, RankState


class Clock:
    """Unix seconds that move only when told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def record(step: int, **changes: Any) -> StepRecord:
    """An ordinary step of 0.2 s."""
    values: dict[str, Any] = {
        "clips": 8,
        "frames": 96,
        "loss": 0.5,
        "logs": {"ranking/loss": 0.5, "ranking/accuracy": 0.75},
        "seconds": {
            "data": 0.02,
            "forward": 0.08,
            "backward": 0.08,
            "optimizer": 0.02,
            "total": 0.2,
        },
        "learning_rate": 1e-3,
        "gradient_norm": 1.5,
        "loader_blocked": {"fetch": 0.1, "decode": 0.2},
        "loader_counts": {
            "clips": 8 * (step + 1),
            "bytes": 1000,
            "retries": 2,
            "missing_decode": 1,
        },
    }
    return StepRecord(step=step, **{**values, **changes})


def state(
    rank: int = 0,
    world_size: int = 2,
    attempt: int = 1,
    clock: Callable[[], float] | None = None,
) -> RankState:
    identity = RankIdentity(
        run="demo", rank=rank, world_size=world_size, node="node7", attempt=attempt
    )
    settings = ObserveSettings(window_steps=8, clip_budgets={"decode": 0.01, "unpack": 0.1})
    return RankState(identity, settings, start_step=0, total_steps=100, clock=clock or Clock())


def quiet_settings(**changes: Any) -> ObserveSettings:
    """No server, no console: only what the test asks for."""
    return ObserveSettings(
        **{
            "exporter": ExporterSettings(enabled=False),
            "console": "quiet",
            "heartbeat_seconds": 0.1,
            **changes,
        }
    )


def observer(
    run_folder: Path, settings: ObserveSettings | None = None, **changes: Any
) -> Observer:
    values: dict[str, Any] = {
        "run_name": "demo",
        "rank": 0,
        "world_size": 1,
        "attempt": 1,
        "start_step": 0,
        "total_steps": 100,
        "stream": io.StringIO(),
    }
    return Observer(
        settings or quiet_settings(), run_folder=run_folder, **{**values, **changes}
    )

"""Where the curves go besides metrics.jsonl: TensorBoard and Weights & Biases, each only where
it is asked for.

Both are told numbers by step, so that the steps a restart repeats replace the older ones
instead of doubling them.
"""

import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ausl_dist.observe.settings import TrackerSettings
from ausl_dist.observe.state import RankIdentity
from ausl_dist.packages import require


class Tracker(Protocol):
    """Something that draws curves."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def check_trackers(settings: TrackerSettings) -> None:
    """Raise ValueError where a tracker that is asked for lacks its package."""
    if settings.tensorboard:
        require("observe.trackers.tensorboard")
    if settings.wandb_project is not None:
        require("observe.trackers.wandb_project")


def make_trackers(
    settings: TrackerSettings, identity: RankIdentity, run_folder: Path, start_step: int
) -> list[Tracker]:
    """The trackers that the settings ask for; raises ValueError where one's package is lacking."""
    check_trackers(settings)
    trackers: list[Tracker] = []
    if settings.tensorboard:
        trackers.append(TensorBoard(run_folder / "tensorboard", start_step))
    if settings.wandb_project is not None:
        trackers.append(WeightsAndBiases(settings.wandb_project, identity, run_folder))
    return trackers


def flat_numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a line of metrics.jsonl, nested names joined by a slash."""
    flat: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            flat.update(
                {f"{name}/{inner}": number for inner, number in flat_numbers(value).items()}
            )
        elif (
            isinstance(value, int | float)
            and math.isfinite(value)
            and name not in ("step", "attempt", "time")
        ):
            flat[name] = float(value)
    return flat


class TensorBoard:
    """Event files in the run folder; what an earlier attempt wrote from `start_step` on is
    hidden by TensorBoard itself.
    """

    def __init__(self, folder: Path, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=start_step or None)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """One run there for all attempts of a run here: its id is kept in the run folder."""

    def __init__(self, project: str, identity: RankIdentity, run_folder: Path) -> None:
        import wandb

        path = run_folder / "wandb_id"
        run_id = path.read_text().strip() if path.exists() else secrets.token_hex(4)
        path.write_text(f"{run_id}\n")
        self._run: Any = wandb.init(
            project=project, name=identity.run, id=run_id, resume="allow", dir=str(run_folder)
        )
        # Its own counter only grows; with ours as the axis a step that was repeated is drawn
        # where it belongs.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({**numbers, "step": step})

    def close(self) -> None:
        self._run.finish()

"""Which checkpoint of a run is released: the newest complete one, the best by the online probe, or
one that is named.

RUN/checkpoints/step-00000400/                       damaged ones are passed over with an error in
the log RUN/online.jsonl  {"step": 400, "probe_icc": 0.21}   written in training where the run has
an online probe
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from ausl_dist.files import read_json_lines

ONLINE_NAME = "online.jsonl"
# of labelled intensities, and of labelled occurrence; higher is better
PROBE_SCORES = (
    "probe_icc",
    "probe_f1",
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """A checkpoint folder, and why it was taken, in words."""

    folder: Path
    reason: str


def choose_checkpoint(run_folder: Path, wanted: Path | str) -> Chosen:
    """The checkpoint of a run that is "newest", "best", or the folder named.

    Raises ValueError, with what to do, where there is none.
    """
    if wanted == "newest":
        return Chosen(_newest(run_folder), "the newest complete checkpoint")
    if wanted == "best":
        return _best(run_folder)
    return Chosen(Path(wanted), "named by hand")


def _newest(run_folder: Path) -> Path:
    from ausl_dist.train.checkpoint import (
        newest_complete,  # here: it brings the training engine with it
    )

    newest = newest_complete(run_folder)
    if newest is None:
        raise ValueError(
            f"{run_folder} has no complete checkpoint yet: let it reach its first save, "
            "or name one with --checkpoint DIR"
        )
    return newest


def _best(run_folder: Path) -> Chosen:
    from ausl_dist.train.checkpoint import (  # here: it brings the training engine with it
        completed,
        damage,
    )

    scores = read_probe(run_folder)
    there = {step_of(folder): folder for folder in completed(run_folder)}
    name = next((name for name in PROBE_SCORES if scores.get(name)), PROBE_SCORES[0])
    kept = {step: score for step, score in scores.get(name, {}).items() if step in there}
    for step in sorted(kept, key=lambda step: (kept[step], step), reverse=True):
        if problem := damage(there[step]):
            log.error("checkpoint %s is damaged and passed over: %s", there[step], problem)
            continue
        reason = (
            "the best by the online probe among the checkpoints kept: "
            f"{name} {kept[step]:.4f} at step {step}"
        )
        return Chosen(there[step], reason)
    scored = ", ".join(map(str, sorted(scores.get(name, {})))) or "none"
    raise ValueError(
        f"no complete checkpoint of {run_folder} has a score of the online probe (steps with one: "
        f"{scored}; checkpoints: "
        f"{', '.join(map(str, there)) or 'none'}): release with --checkpoint newest, "
        "or name one with --checkpoint DIR"
    )


def read_probe(run_folder: Path) -> dict[str, dict[int, float]]:
    """The online probe's scores by name and step; of a step that was done twice, after a resume,
    the later one.

    Raises ValueError where the run has no such file, or lines of it are not of the form above.
    """
    path = run_folder / ONLINE_NAME
    if not path.is_file():
        raise ValueError(
            f"{path} is not there: the run had no online probe, so none of its checkpoints is "
            "known to be the best; "
            "release with --checkpoint newest, or name one with --checkpoint DIR"
        )
    scores: dict[str, dict[int, float]] = {name: {} for name in PROBE_SCORES}
    try:
        for line in read_json_lines(path):
            for name in PROBE_SCORES:
                if line.get(name) is not None and math.isfinite(line[name]):
                    scores[name][int(line["step"])] = float(line[name])
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): release with --checkpoint newest, "
            "or name one with --checkpoint DIR"
        ) from error
    return scores


def step_of(checkpoint: Path) -> int:
    """Optimizer steps behind a checkpoint, from its name."""
    return int(checkpoint.name.rsplit("-", 1)[-1])

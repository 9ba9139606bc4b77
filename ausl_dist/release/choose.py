"""Which checkpoint of a run is released: the newest whole one, the best by the online probe, or
one that is named.

    RUN/checkpoints/step-00000400/                       damaged ones are passed over, or refused
    RUN/online.jsonl  {"step": 400, "probe_icc": 0.21}   where the run has an online probe
"""

from dataclasses import dataclass
from pathlib import Path

from ausl_dist.run_folder import (
    ONLINE_FILE,
    checked_checkpoint,
    complete_checkpoints,
    is_whole,
    main_scores,
    newest_whole_checkpoint,
    step_of,
    steps_by_score,
)


@dataclass(frozen=True)
class Chosen:
    """A checkpoint folder, and why it was taken, in words."""

    folder: Path
    reason: str


def choose_checkpoint(run_folder: Path, wanted: Path | str) -> Chosen:
    """The checkpoint of a run that is "newest", "best", or the folder named; every byte of it
    is as it was written.

    Raises ValueError, with what to do, where there is none, or the one named is damaged.
    """
    if wanted == "newest":
        return Chosen(_newest(run_folder), "the newest whole checkpoint")
    if wanted == "best":
        return _best(run_folder)
    return Chosen(checked_checkpoint(wanted), "named by hand")


def _newest(run_folder: Path) -> Path:
    newest = newest_whole_checkpoint(run_folder)
    if newest is None:
        raise ValueError(
            f"{run_folder} has no complete checkpoint yet: let it reach its first save, "
            "or name one with --checkpoint DIR"
        )
    return newest


def _best(run_folder: Path) -> Chosen:
    other_ways = "release with --checkpoint newest, or name one with --checkpoint DIR"
    path = run_folder / ONLINE_FILE
    if not path.is_file():
        raise ValueError(
            f"{path} is not there: the run had no online probe, so none of its checkpoints is "
            f"known to be the best; {other_ways}"
        )
    name, scores = main_scores(run_folder)
    there = {step_of(folder): folder for folder in complete_checkpoints(run_folder)}
    for step in steps_by_score(run_folder, among=set(there)):
        if is_whole(there[step]):
            reason = (
                "the best by the online probe among the checkpoints kept: "
                f"{name} {scores[step]:.4f} at step {step}"
            )
            return Chosen(there[step], reason)
    scored = ", ".join(map(str, sorted(scores))) or "none"
    kept = ", ".join(map(str, there)) or "none"
    raise ValueError(
        f"no whole checkpoint of {run_folder} has a score of the online probe "
        f"(steps with one: {scored}; checkpoints: {kept}): {other_ways}"
    )

"""Going back to a checkpoint, on disk: what is written down, what is removed, and what is left
to go on from.

Trouble ──▶ record.json ──▶ checkpoints of the abandoned steps removed
    ──▶ the newest whole one from before the trouble
"""

from collections.abc import Sequence
from pathlib import Path

from ausl_dist.run_folder import complete_checkpoints, damage, step_of
from ausl_dist.train.checkpoint import remove
from ausl_dist.train.record import note_rewind
from ausl_dist.train.stability import DivergedError, Rewind, Trouble


def roll_back(folder: Path, trouble: Trouble, attempt: int) -> tuple[Path | None, Rewind]:
    """Write down that a run goes back, and remove the checkpoints that hold its steps;
    returns the one to go on from, if any.

    None stands for the beginning, for a run that had no checkpoint yet.
    """
    there = complete_checkpoints(folder)
    before = [checkpoint for checkpoint in there if step_of(checkpoint) <= trouble.first]
    if there and not before:
        raise DivergedError(
            f"{trouble.reason}, and no checkpoint from before step {trouble.first} is left: "
            "raise checkpoint.keep_last"
        )
    whole = next(
        (checkpoint for checkpoint in reversed(before) if damage(checkpoint) is None), None
    )
    if before and whole is None:
        raise DivergedError(
            f"{trouble.reason}, and every checkpoint from before step {trouble.first} is damaged"
        )
    rewind = Rewind(
        trouble.first,
        trouble.last,
        trouble.reason,
        0 if whole is None else step_of(whole),
        attempt,
    )
    # first: killed after this line, the next attempt does what is left to do
    note_rewind(folder, rewind)
    remove_abandoned(folder, [rewind])
    return whole, rewind


def remove_abandoned(folder: Path, rewinds: Sequence[Rewind]) -> None:
    """Remove the checkpoints of steps that a rewind has abandoned."""
    for checkpoint in complete_checkpoints(folder):
        if any(rewind.abandons(step_of(checkpoint)) for rewind in rewinds):
            remove(checkpoint)

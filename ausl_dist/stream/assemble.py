"""The clips of one step, in slot order, to a Batch.

Slots of missing clips hold zeros and weight 0.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ausl_dist.batch import Batch, Needs, View
from ausl_dist.convention import NUM_LANDMARKS
from ausl_dist.randomness import stable_hash
from ausl_dist.stream.prepare import UNKNOWN, Prepared


def assemble(
    step: int,
    plan: Needs,
    keys: Sequence[str],
    clips: Sequence[Prepared | None],
    frames: dict[View, Tensor],
    num_action_units: int,
) -> Batch:
    """`keys` names every slot, `clips` is None where one is missing, `frames` is B T C H W of each
    view, zeros where one is missing.
    """
    batch = Batch(
        step=step,
        keys=tuple(keys),
        weight=torch.tensor([0.0 if clip is None else 1.0 for clip in clips]),
        frames=frames,
    )
    if plan.identity:
        # Names are those of a corpus: the same one in two corpora is two people, for all that is
        # known.
        batch.identity = _hashes(
            [None if clip is None else (clip.corpus, clip.meta.identity) for clip in clips]
        )
        batch.video = _hashes(
            [None if clip is None else (clip.corpus, clip.meta.source) for clip in clips]
        )
    for view, offsets in plan.views.items():
        if plan.landmarks:
            empty = np.zeros((len(offsets), NUM_LANDMARKS, 2), np.float32)
            batch.landmarks[view] = _stack(
                [empty if clip is None else clip.landmarks[view] for clip in clips]
            )
        if plan.action_units:
            unknown = np.full((len(offsets), num_action_units), UNKNOWN, np.int8)
            batch.action_units[view] = _stack(
                [unknown if clip is None else clip.action_units[view] for clip in clips]
            )
        if plan.flow_gap and (view in plan.flow_measured or not plan.flow_measured):
            batch.flow[view] = _flow(
                [None if clip is None else clip.flow[view] for clip in clips],
                1 if plan.flow_measured else len(offsets),
            )
    return batch


def _flow(clips: Sequence[np.ndarray | None], count: int) -> Tensor:
    """Motion of `count` frames of all slots; unknown where the clip is missing."""
    there = [clip for clip in clips if clip is not None]
    if len({clip.shape for clip in there}) > 1:
        raise ValueError(
            "corpora of one run store motion on grids of "
            f"{sorted({2 * clip.shape[-1] for clip in there})} cells: use one"
        )
    unknown = np.full(there[0].shape if there else (count, 2, 1, 1), np.nan, np.float32)
    return _stack([unknown if clip is None else clip for clip in clips])


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _hashes(words: Sequence[tuple[str, str] | None]) -> Tensor:
    numbers = np.array([0 if pair is None else stable_hash(*pair) for pair in words], np.uint64)
    return torch.from_numpy(numbers.view(np.int64))

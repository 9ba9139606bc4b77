"""Random choices of an objective (which patch is hidden, which region is removed), one stream
for each clip.

    (name of the choice, step, clip key) ──▶ uniform numbers

A draw does not depend on which rank holds the clip, nor on its neighbours in the batch: two
ranks hide what one rank would hide.
"""

import math

import numpy as np
import torch
from torch import Tensor

from ausl_dist.objectives.base import BatchView
from ausl_dist.randomness import random_stream


def uniform(batch: BatchView, name: str, *shape: int) -> Tensor:
    """Numbers in [0, 1), float32 B x shape, on the batch's device; equal for equal name, step
    and clip key.
    """
    count = math.prod(shape)
    rows = [
        random_stream(name, batch.step, key).random(count, dtype=np.float32)
        for key in batch.keys
    ]
    return torch.from_numpy(np.stack(rows)).view(-1, *shape).to(batch.weight.device)

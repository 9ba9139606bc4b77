"""The control that tells learning of time from learning of anything else."""

import numpy as np
import pytest
import torch

from tests.support.tiny import make_batch, make_model


@pytest.mark.parametrize("shuffled", [False, True])
def test_only_the_true_order_can_be_learnt(shuffled: bool) -> None:
    """Shuffled frames must leave ranking accuracy near one half, on batches never seen before;
    true order must not.
    """
    ranking = {
        "_target_": "ausl_dist.objectives.temporal_ranking.TemporalRanking",
        "n_far": 4,
        "batch_norm": "merged",
        "crop": "per_clip",
    }
    model = make_model(ranking=ranking)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    order = torch.Generator().manual_seed(0)
    accuracies = []
    for step in range(24):
        batch = make_batch(model.plan, 8, step=step)
        if shuffled:
            for view, frames in batch.frames.items():
                batch.frames[view] = torch.stack(
                    [clip[torch.randperm(len(clip), generator=order)] for clip in frames]
                )
        output = model(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        accuracies.append(float(output.logs["ranking/accuracy"]))
    found = float(np.mean(accuracies[-8:]))
    assert 0.35 < found < 0.65 if shuffled else found > 0.9

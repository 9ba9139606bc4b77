"""Every objective learns through every readout: the loss is finite, and its gradient reaches
the network.
"""

import math

import pytest
import torch

from ausl_dist.train.teacher import Teacher
from tests.contract.test_objective_contract import FILES, settings
from tests.support.tiny import BATCH_NORM, make_batch, make_model


@pytest.mark.parametrize("readout", ["grid", "regions", "learnt"])
def test_every_objective_works_with_it(readout: str) -> None:
    for file in FILES:
        model = make_model(
            backbone=BATCH_NORM, seed=0, readout=readout, **{file.stem: settings(file)}
        )
        if model.needs_teacher:
            model.teacher = Teacher(model, torch.device("cpu"))
        batch = make_batch(model.plan, 4, image_size=32)
        batch.weight[1] = 0.0
        output = model(batch)
        assert math.isfinite(float(output.loss.detach())), file.stem
        output.loss.backward()
        found = {name: p.grad for name, p in model.named_parameters()}
        assert all(g is not None and torch.isfinite(g).all() for g in found.values()), file.stem
        reached = [
            float(g.abs().sum())
            for name, g in found.items()
            if g is not None and name.startswith("backbone.net.")
        ]
        assert max(reached) > 0, file.stem

"""The joint model: slots without a clip change nothing, views are shared, objectives are
weighed.
"""

import dataclasses

import pytest
import torch

from ausl_dist.model.joint import JointModel
from ausl_dist.model.objective_settings import build_objective
from tests.support.tiny import BATCH_NORM, RANKING, make_batch, make_model

MERGED = {**RANKING, "batch_norm": "merged"}


def test_the_loss_is_the_weighted_sum() -> None:
    model = make_model(a=MERGED, b={**MERGED, "n_far": 2})
    model.weights = {"a": 2.0, "b": 0.5}
    output = model(make_batch(model.plan, 3))
    assert output.loss.item() == pytest.approx(
        2 * output.logs["a/loss"].item() + 0.5 * output.logs["b/loss"].item(), rel=1e-5
    )
    assert set(output.embeddings) == {"backbone", "a", "b"}


def test_an_objective_of_weight_0_still_gives_every_parameter_a_gradient() -> None:
    model = make_model(a=MERGED, b=MERGED)
    model.weights["b"] = 0.0
    model(make_batch(model.plan, 2)).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all((parameter.grad == 0).all() for parameter in model.objectives["b"].parameters())


def test_garbage_in_a_missing_clips_slot_reaches_neither_loss_nor_batch_norm() -> None:
    outputs, statistics = [], []
    for garbage in (0.0, 1e6, float("nan")):
        model = make_model(backbone=BATCH_NORM)
        batch = make_batch(model.plan, 4)
        batch.weight[2] = 0
        for frames in batch.frames.values():
            frames[2] = garbage
        outputs.append(model(batch).loss.item())
        statistics.append(
            torch.cat([s.flatten().float() for s in model.batch_norm_statistics()])
        )
    assert len(set(outputs)) == 1
    assert torch.equal(statistics[0], statistics[1])
    assert torch.equal(statistics[0], statistics[2])


def test_a_batch_without_any_clip_gives_zero_loss_and_leaves_batch_norm_alone() -> None:
    model = make_model(backbone=BATCH_NORM)
    batch = make_batch(model.plan, 4)
    empty = dataclasses.replace(
        batch,
        weight=torch.zeros(4),
        frames={view: torch.zeros_like(f) for view, f in batch.frames.items()},
    )
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    output = model(empty)
    output.loss.backward()
    assert output.loss.item() == 0.0
    assert all((parameter.grad == 0).all() for parameter in model.parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(module.training for module in model.modules())


def test_a_mixture_that_does_not_name_the_objectives_is_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match="mixture"):
        JointModel(model.backbone, dict(model.objectives.items()), {"other": 1.0})  # type: ignore[arg-type]


def test_an_objective_that_cannot_be_built_says_why() -> None:
    with pytest.raises(ValueError, match="n_fa"):
        build_objective({**RANKING, "n_fa": 3}, feature_dim=8)
    with pytest.raises(ValueError, match="subclass"):
        build_objective({"_target_": "builtins.dict"}, feature_dim=8)

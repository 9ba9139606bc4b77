"""Dense predictive coding: the loss is the published one; its answers, negatives and gradients
are where they should be.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ausl_dist.batch import View
from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.objectives.predictive_coding import (
    PredictiveCoding,
    count_negatives,
    dense_contrast,
)
from tests.support.ranks import run_ranks
from tests.support.tiny import IMAGE_SIZE, make_batch, make_model

TARGET = "ausl_dist.objectives.predictive_coding.PredictiveCoding"
Array = NDArray[np.float64]


def contrast_in_numpy(predictions: Array, targets: Array) -> tuple[float, Array, Array]:
    """Mean loss over (b, p, s) with its gradients on predictions and targets B P S W, by loops
    over the formula.
    """
    clips, steps, places, _ = predictions.shape
    questions = [(b, p, s) for b in range(clips) for p in range(steps) for s in range(places)]
    total, on_predictions, on_targets = 0.0, np.zeros_like(predictions), np.zeros_like(targets)
    for question in questions:
        scores = np.array([predictions[question] @ targets[answer] for answer in questions])
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        right = questions.index(question)
        total -= math.log(shares[right])
        for answer, share in zip(questions, shares, strict=True):
            error = share - (answer == question)
            on_predictions[question] += error * targets[answer]
            on_targets[answer] += error * predictions[question]
    count = len(questions)
    return total / count, on_predictions / count, on_targets / count


def test_loss_and_gradients_are_those_of_the_formula() -> None:
    generator = np.random.default_rng(0)
    predictions, targets = (
        generator.normal(size=(3, 2, 4, 5)),
        generator.normal(size=(3, 2, 4, 5)),
    )
    value, on_predictions, on_targets = contrast_in_numpy(predictions, targets)
    p, t = (
        torch.tensor(predictions, requires_grad=True),
        torch.tensor(targets, requires_grad=True),
    )
    loss = dense_contrast(p, t, torch.ones(3, dtype=torch.bool))[0].mean()
    loss.backward()
    assert p.grad is not None
    assert t.grad is not None
    assert float(loss.detach()) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(p.grad.numpy(), on_predictions, atol=1e-12)
    np.testing.assert_allclose(t.grad.numpy(), on_targets, atol=1e-12)


def test_predictions_orthogonal_to_all_targets_cost_the_log_of_the_number_of_answers() -> None:
    predictions, targets = torch.zeros(4, 3, 16, 8), torch.zeros(4, 3, 16, 8)
    predictions[..., :4], targets[..., 4:] = torch.randn(4, 3, 16, 4), torch.randn(4, 3, 16, 4)
    loss, _ = dense_contrast(predictions, targets, torch.ones(4, dtype=torch.bool))
    assert float(loss.mean()) == pytest.approx(math.log(48 * 4), abs=1e-5)


def test_each_question_has_its_own_answer() -> None:
    everything = 20 * torch.eye(2 * 3 * 4).view(2, 3, 4, -1)
    loss, found = dense_contrast(everything, everything, torch.ones(2, dtype=torch.bool))
    assert float(loss.max()) < 1e-6
    assert bool((found == 1).all())


def test_a_clip_that_is_missing_is_nobodys_negative() -> None:
    predictions, targets = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 4, 8)
    alone, _ = dense_contrast(predictions[:2], targets[:2], torch.ones(2, dtype=torch.bool))
    with_missing, _ = dense_contrast(predictions, targets, torch.tensor([True, True, False]))
    torch.testing.assert_close(with_missing[:2], alone)
    assert bool(torch.isfinite(with_missing).all())


def test_negatives_are_counted_by_kind() -> None:
    counts = {
        name: float(value)
        for name, value in count_negatives(torch.zeros(8, 3, 16, 1), torch.ones(8)).items()
    }
    assert counts == {
        "negatives_spatial": 45,
        "negatives_temporal": 2,
        "negatives_easy": 7 * 48,
        "chance": pytest.approx(math.log(8 * 48), abs=1e-4),
    }
    assert 1 + 45 + 2 + 7 * 48 == 8 * 48


def small(**settings: Any) -> JointModel:
    return make_model(dpc={"_target_": TARGET, "width": 16, "dropout": 0.0, **settings})


def test_a_clip_of_one_repeated_frame_cannot_be_told_apart_in_time() -> None:
    """Three equal targets in time leave at least ln 3, however good the predictor."""
    model = small(blocks=6)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    batch = make_batch(model.plan, 2)
    for view, frames in batch.frames.items():
        batch.frames[view] = frames[:, :1].expand_as(frames).contiguous()
    for _ in range(15):
        loss = model(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert float(loss.detach()) >= math.log(3) - 1e-4


def test_gradient_reaches_predictor_recurrence_and_targets() -> None:
    model = small(blocks=4, predicted=3)
    model(make_batch(model.plan, 2)).loss.backward()
    assert all(
        float(p.grad.abs().sum()) > 0
        for p in model.parameters()
        if p.grad is not None and p.ndim > 1
    )
    # With one block seen and three predicted, the last three frames enter as targets alone.
    objective = PredictiveCoding(feature_dim=8, width=8)
    z = torch.randn(2, 3, 4, 8, requires_grad=True)
    dense_contrast(
        objective._roll_out(torch.randn(2, 5, 8, 2, 2)), z, torch.ones(2, dtype=torch.bool)
    )[0].sum().backward()
    assert z.grad is not None
    assert float(z.grad.abs().min()) > 0


def on_this_rank(*kinds: str) -> list[tuple[float, float]]:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    results = [loss_and_gradient(kind) for kind in kinds]
    dist.destroy_process_group()
    return results


def loss_and_gradient(negatives: str) -> tuple[float, float]:
    """Mean over ranks of the loss, and norm of the mean gradient."""
    import torch.distributed as dist

    model = small(negatives=negatives)
    whole = make_batch(model.plan, 4)
    first = 2 * dist.get_rank()
    loss = model(whole.cut(first, first + 2)).loss
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    result = torch.cat([loss.detach()[None], gradient])
    dist.all_reduce(result)
    return float(result[0] / 2), float((result[1:] / 2).norm())


def test_gathered_negatives_make_the_loss_independent_of_the_number_of_ranks() -> None:
    model = small()
    loss = model(make_batch(model.plan, 4)).loss
    loss.backward()
    norm = float(
        torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    )
    for gathered, own in run_ranks(on_this_rank, 2, "all_ranks", "rank"):
        assert gathered[0] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert gathered[1] == pytest.approx(norm, rel=1e-4)
        assert own[0] < float(loss.detach()) - 0.3  # half the clips: an easier question


def test_blocks_of_the_published_code_go_through_the_2d3d_network() -> None:
    torch.manual_seed(0)
    settings = {
        "_target_": TARGET,
        "encoder": "block",
        "blocks": 3,
        "block_frames": 5,
        "predicted": 1,
        "stride": 1,
    }
    model = build_model(
        BackboneSettings("resnet18_2d3d", image_size=IMAGE_SIZE),
        {"dpc": settings},
        {"dpc": 1.0},
    )
    # what is predicted is the encoder's own output
    assert isinstance(model.objectives["dpc"].reduce, torch.nn.Identity)
    output = model(make_batch(model.plan, 2))
    output.loss.backward()
    assert math.isfinite(float(output.loss.detach()))
    pooled, maps = model.backbone(torch.zeros(1, 5, 3, 128, 128))
    assert (tuple(pooled.shape), tuple(maps.shape)) == ((1, 256), (1, 256, 4, 4))
    # a frame alone is a block of one
    assert model.backbone(torch.zeros(2, 3, 64, 64))[0].shape == (
        2,
        256,
    )


def test_blocks_ask_for_a_backbone_that_sees_video() -> None:
    model = small(encoder="block", blocks=3, block_frames=2, predicted=1)
    with pytest.raises(ValueError, match="resnet18_2d3d"):
        model(make_batch(model.plan, 2))


def test_the_published_clip_spans_its_frames() -> None:
    objective = PredictiveCoding(feature_dim=256, encoder="block", block_frames=5, stride=3)
    (offsets,) = objective.needs().views.values()
    assert (len(offsets), offsets[-1] + 1) == (40, 118)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted < blocks"):
        PredictiveCoding(feature_dim=8, blocks=3, predicted=3)
    with pytest.raises(ValueError, match="per_frame=false"):
        PredictiveCoding(feature_dim=8, encoder="block", view=View(per_frame=True))


def test_within_the_clip_every_block_is_an_answer_and_the_last_ones_are_right() -> None:
    predictions = torch.zeros(2, 2, 1, 4)  # B P S W
    targets = torch.zeros(2, 5, 1, 4)
    usable = torch.zeros(2, dtype=torch.bool)
    loss, _ = dense_contrast(predictions, targets, usable)
    assert loss.tolist() == pytest.approx(2 * [math.log(5)])
    targets[:, 3, 0, 0] = targets[:, 4, 0, 1] = 9.0
    predictions[:, 0, 0, 0] = predictions[:, 1, 0, 1] = 9.0
    loss, found = dense_contrast(predictions, targets, usable)
    assert loss.max() < 1e-3
    assert found.tolist() == [1.0, 1.0]

"""Balance between objectives: pulls are measured as they are, and evened out as their weights
say.
"""

import pytest
import torch

from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import JointModel, build_model
from tests.support.tiny import LAYER_NORM, make_batch

RANKING = {
    "_target_": "ausl_dist.objectives.temporal_ranking.TemporalRanking",
    "n_far": 3,
    "batch_norm": "merged",
    "crop": "per_clip",
}
UNITS = {"_target_": "ausl_dist.objectives.action_units.ActionUnits", "task": "intensity"}
WEIGHTS = {"ranking": 1.0, "units": 3.0}


def model_of(balance_decay: float | None) -> JointModel:
    torch.manual_seed(0)
    return build_model(
        BackboneSettings(LAYER_NORM, image_size=32),
        {"ranking": RANKING, "units": UNITS},
        WEIGHTS,
        balance_decay,
    )


def train(model: JointModel, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)  # so slow that norms stay as they are
    batch = make_batch(model.plan, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(batch).loss.backward()
        optimizer.step()
        model.after_step(True)


def test_balanced_pulls_have_the_shares_that_weights_state() -> None:
    model = model_of(0.9)
    train(model, 3)
    assert model.balance is not None
    norms, factors = model.balance.norms(), model.balance.factors(model.weights)
    pulls = torch.tensor([factors["ranking"], factors["units"]]) * norms
    # without balance the larger loss would have its way
    assert not 0.9 < float(norms[1] / norms[0]) / 3 < 1.1
    assert float(pulls[1] / pulls[0]) == pytest.approx(3.0, rel=1e-4)
    assert float(pulls.sum()) == pytest.approx(float(norms.sum()), rel=1e-4)


def test_first_step_is_not_changed_by_balance() -> None:
    batch = make_batch(model_of(None).plan, 3)
    gradients = []
    for decay in (None, 0.9):
        model = model_of(decay)
        model(batch).loss.backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    torch.testing.assert_close(gradients[0], gradients[1])


def test_heads_keep_their_own_gradient() -> None:
    model = model_of(0.9)
    train(model, 2)
    assert model.balance is not None
    batch = make_batch(model.plan, 3)
    model.zero_grad()
    model(batch).loss.backward()
    head = model.get_submodule("objectives.units.head")
    balanced = [p.grad.clone() for p in head.parameters() if p.grad is not None]
    model.zero_grad()
    model.balance.mean_square.zero_()  # nothing measured: factors of 1
    model(batch).loss.backward()
    torch.testing.assert_close(
        balanced, [p.grad for p in head.parameters() if p.grad is not None]
    )


def test_running_norms_stay_in_float32() -> None:
    model = model_of(0.99).bfloat16()
    assert model.balance is not None
    assert model.balance.mean_square.dtype == torch.float32


def test_a_step_not_taken_is_not_measured() -> None:
    model = model_of(0.9)
    model(make_batch(model.plan, 2)).loss.backward()
    model.after_step(False)
    assert model.balance is not None
    assert float(model.balance.steps) == 0


def test_report_tells_the_true_gradients_and_changes_nothing() -> None:
    model = model_of(None)
    batch = make_batch(model.plan, 2)
    before, random = (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        torch.get_rng_state(),
    )
    report = model.gradient_report(batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    model(batch).loss.backward()
    total = torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for p in model.backbone.parameters()
        ]
    ).norm()
    a, b, cosine = (
        report["ranking/gradient_norm"],
        report["units/gradient_norm"],
        report["ranking/cosine_units"],
    )
    # law of cosines
    assert float(total) ** 2 == pytest.approx(a**2 + b**2 + 2 * a * b * cosine, rel=1e-3)


def test_decay_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="balance_decay"):
        model_of(1.0)

"""Identity adversary: its head learns who it is, its backbone is pushed to hide it."""

import torch

from ausl_dist.objectives.identity_adversary import reverse_gradient
from tests.support.tiny import make_batch, make_model

ADVERSARY = {
    "_target_": "ausl_dist.objectives.identity_adversary.IdentityAdversary",
    "buckets": 16,
    "warmup_steps": 1,
}


def test_the_gradient_turns_round_and_the_value_stays() -> None:
    features = torch.randn(3, 4, requires_grad=True)
    out = reverse_gradient(features, 2.0)
    assert torch.equal(out, features)
    out.sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad, torch.full((3, 4), -2.0))


def test_the_head_alone_lowers_the_loss_and_the_backbone_alone_raises_it() -> None:
    for part, sign in (("objectives", -1), ("backbone", 1)):
        model = make_model(identity=ADVERSARY)
        batch = make_batch(model.plan, 4)
        optimizer = torch.optim.SGD(model.get_submodule(part).parameters(), 1e-3)
        losses = []
        for _ in range(4):
            loss = model(batch).loss
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert sign * (losses[-1] - losses[0]) > 0


def test_strength_grows_to_its_value() -> None:
    model = make_model(identity=ADVERSARY | {"warmup_steps": 4, "strength": 2.0})
    strengths = [
        float(model(make_batch(model.plan, 2, step=step)).logs["identity/strength"])
        for step in (0, 1, 9)
    ]
    assert strengths == [0.5, 1.0, 2.0]

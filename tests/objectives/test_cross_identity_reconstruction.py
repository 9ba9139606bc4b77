"""Cross-identity reconstruction: nobody is rebuilt from himself, and the bank holds what it
should.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ausl_dist.batch import Batch
from ausl_dist.model.joint import JointModel
from ausl_dist.objectives.cross_identity_reconstruction import (
    CrossIdentityReconstruction,
    recognition_loss,
    reconstruct,
)
from ausl_dist.train.teacher import Teacher
from launch.compose import compose
from tests.support.tiny import make_batch, make_model

TARGET = "ausl_dist.objectives.cross_identity_reconstruction.CrossIdentityReconstruction"
FRAMES = 4


def small(**settings: Any) -> tuple[JointModel, CrossIdentityReconstruction]:
    settings = {
        "_target_": TARGET,
        "frames": FRAMES,
        "stride": 1,
        "bank_size": 48,
        "embedding_dim": 16,
        **settings,
    }
    model = make_model(cir=settings)
    model.teacher = Teacher(model, torch.device("cpu"))
    objective = model.objectives["cir"]
    assert isinstance(objective, CrossIdentityReconstruction)
    return model, objective


def batch_of(model: JointModel, identities: list[int], step: int = 0) -> Batch:
    batch = make_batch(model.plan, len(identities), step=step)
    batch.identity = torch.tensor(identities)
    return batch


def test_entries_of_ones_own_identity_get_no_attention() -> None:
    torch.manual_seed(0)
    queries, entries = (
        F.normalize(torch.randn(1, 3, 8), dim=-1),
        F.normalize(torch.randn(5, 8), dim=-1),
    )
    allowed = torch.tensor([[True, False, True, False, True]])
    rebuilt = reconstruct(queries, entries, allowed, 0.1)
    elsewhere = entries.clone()
    elsewhere[[1, 3]] = F.normalize(torch.randn(2, 8), dim=-1)
    assert torch.equal(rebuilt, reconstruct(queries, elsewhere, allowed, 0.1))
    weights = (queries @ entries[[0, 2, 4]].T / 0.1).softmax(-1)
    torch.testing.assert_close(rebuilt, F.normalize(weights @ entries[[0, 2, 4]], dim=-1))


def test_without_other_identities_it_is_left_out_and_not_nan() -> None:
    model, _ = small()
    output = model(batch_of(model, [7, 7, 7]))
    output.loss.backward()
    assert float(output.loss.detach()) == 0
    assert float(output.logs["cir/usable"]) == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(bool((gradient == 0).all()) for gradient in gradients)


def test_the_bank_supplies_other_identities() -> None:
    model, objective = small()
    model(batch_of(model, [1, 2]))
    model.after_step(True)
    assert float(model(batch_of(model, [7, 7], step=1)).loss.detach()) > 0
    assert int((objective.bank_step >= 0).sum()) == 2 * FRAMES
    assert set(objective.bank_identity[: 2 * FRAMES].tolist()) == {1, 2}
    torch.testing.assert_close(objective.bank[: 2 * FRAMES].norm(dim=1), torch.ones(2 * FRAMES))


def test_a_step_not_taken_and_a_missing_clip_leave_no_trace_in_the_bank() -> None:
    model, objective = small()
    model(batch_of(model, [1, 2]))
    model.after_step(False)
    assert int((objective.bank_step >= 0).sum()) == 0
    batch = batch_of(model, [1, 2])
    batch.weight[1] = 0
    model(batch)
    model.after_step(True)
    assert objective.bank_identity[objective.bank_step >= 0].tolist() == [1] * FRAMES


def test_the_bank_forgets_its_oldest_entries() -> None:
    model, objective = small(bank_size=10)
    for step in range(4):
        output = model(batch_of(model, [10 + step, 20 + step], step=step))
        model.after_step(True)
    assert int(objective.bank_cursor) == 4 * 2 * FRAMES % 10
    assert set(objective.bank_step.tolist()) == {2, 3}
    assert float(output.logs["cir/bank_age_steps"]) > 0


def test_a_reconstruction_that_is_the_query_is_recognised() -> None:
    queries = torch.eye(4)[None]
    loss, found = recognition_loss(queries, queries, 0.05)
    assert float(loss) < 1e-6
    assert float(found) == 1
    assert float(recognition_loss(queries.flip(1), queries, 0.05)[0]) > 10


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="bank_size"):
        CrossIdentityReconstruction(feature_dim=8, bank_size=2)


def test_both_halves_may_share_one_projector_and_its_slow_copy() -> None:
    words = ["experiment=clp_consecutive", "data.corpora.main.url=none"]
    own = compose([*words, "objectives.cross_identity_reconstruction.bank_size=64"]).run
    model = make_model(**own["objectives"])
    model.teacher = Teacher(model, torch.device("cpu"))
    heads = [name for name, _ in model.objectives.named_parameters() if ".head." in name]
    assert heads
    assert all(name.startswith("temporal_contrast.") for name in heads)
    model.weights["temporal_contrast"] = 0.0
    model(make_batch(model.plan, 4)).loss.backward()
    head = model.objectives["temporal_contrast"].head
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
    assert all(len(offsets) - 1 == offsets[-1] for offsets in model.plan.views.values())


def test_a_deviation_is_blind_to_what_all_frames_of_a_clip_share() -> None:
    _, objective = small(embeds="deviation", recognises="key")
    head, features = torch.nn.Linear(8, 16), torch.randn(2, FRAMES, 8)
    who = torch.randn(2, 1, 8)
    torch.testing.assert_close(
        objective._embed(head, features + who), objective._embed(head, features)
    )


def test_what_is_recognised_is_the_slow_copy_in_the_other_view() -> None:
    model, objective = small(embeds="deviation", recognises="key")
    batch = batch_of(model, [1, 2])
    before = float(model(batch).loss.detach())
    batch.frames[objective.key_view] = batch.frames[objective.key_view].flip(1)
    after = float(model(batch).loss.detach())
    assert after != pytest.approx(before)
    loss = model(batch).loss
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(gradient is not None for gradient in gradients)
    assert any(
        float(gradient.abs().max()) > 0 for gradient in gradients if gradient is not None
    )


@pytest.mark.parametrize(
    "wrong", [{"embeds": "clip"}, {"recognises": "key", "gradient": "query"}]
)
def test_an_embedding_that_is_unknown_or_taught_nothing_is_refused(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="cross_identity_reconstruction"):
        CrossIdentityReconstruction(feature_dim=8, **wrong)

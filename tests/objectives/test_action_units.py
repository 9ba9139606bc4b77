"""The supervised objective: unknown labels count nowhere, and weights and tasks are as stated."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ausl_dist.model.joint import JointModel
from ausl_dist.objectives.action_units import ActionUnits, dice_loss, ordinal_loss
from tests.support.tiny import losses_of_a_few_steps, make_batch, make_model

TARGET = "ausl_dist.objectives.action_units.ActionUnits"
TASKS: list[dict[str, Any]] = [
    {"task": "detection", "dice": 1.0},
    {"task": "intensity"},
    {"task": "ordinal"},
    {"task": "intensity", "context": "gru"},
]


@pytest.mark.parametrize(
    "settings", TASKS, ids=lambda settings: "-".join(map(str, settings.values()))
)
def test_a_few_steps_learn_a_batch_of_each_task(settings: dict[str, Any]) -> None:
    model = make_model(au={"_target_": TARGET, "frames": 2, **settings})
    batch = make_batch(model.plan, 3)
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < losses[0]


def test_unknown_labels_count_nowhere() -> None:
    model = make_model(au={"_target_": TARGET, "units": [1, 12], "task": "intensity"})
    batch = make_batch(model.plan, 2, num_units=2)
    (view,) = batch.action_units
    batch.action_units[view] = torch.tensor([[[3, -1]], [[-1, -1]]], dtype=torch.int8)
    guess = model.objectives["au"].head(model.backbone(batch.frames[view].flatten(0, 1))[0])
    assert float(model(batch).loss.detach()) == pytest.approx(
        float((guess.detach()[0, 0] - 3) ** 2), rel=1e-5
    )
    batch.action_units[view] = torch.full((2, 1, 2), -1, dtype=torch.int8)
    assert float(model(batch).loss.detach()) == 0


def test_rare_units_weigh_more() -> None:
    objective = ActionUnits(feature_dim=4, units=(1, 2), positive_rates=(0.1, 0.4))
    torch.testing.assert_close(objective.unit_weight, torch.tensor([1.6, 0.4]))


def test_presence_begins_at_the_threshold() -> None:
    known = torch.tensor([[[1, 2, 5]]]).float()
    values, _ = ActionUnits(feature_dim=4, units=(1, 2, 4))._errors(
        torch.zeros(1, 1, 3, 1), known
    )
    present = ActionUnits(feature_dim=4, units=(1, 2, 4), positive_from=2)._errors(
        torch.full((1, 1, 3, 1), 9.0), known
    )[0]
    torch.testing.assert_close(values, torch.full((1, 1, 3), 0.6931), atol=1e-3, rtol=0)
    assert (present > 1).flatten().tolist() == [True, False, False]


EQUAL = torch.ones(2)


def test_dice_of_a_perfect_guess_is_zero_and_unknown_labels_do_not_matter() -> None:
    present, known = (
        torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]),
        torch.tensor([[[1, 1]], [[1, 0]]]),
    )
    assert float(dice_loss(present, present, known, EQUAL)) == 0
    wrong_where_unknown = present.clone()
    wrong_where_unknown[1, 0, 1] = 0.0
    assert float(dice_loss(wrong_where_unknown, present, known, EQUAL)) == 0


def test_ordinal_levels_have_their_mean_and_prefer_the_label() -> None:
    logits = F.one_hot(torch.tensor([[[3]]]), 6).float() * 30
    loss, expected = ordinal_loss(logits, torch.tensor([[[3.0]]]))
    assert float(expected) == pytest.approx(3.0, abs=1e-4)
    assert float(loss) < float(ordinal_loss(logits, torch.tensor([[[1.0]]]))[0])


def test_recurrence_learns_from_a_label_at_the_end_alone() -> None:
    """One labelled frame in a clip sends its gradient back through the frames before it."""
    model = make_model(
        au={
            "_target_": TARGET,
            "units": [12],
            "task": "intensity",
            "context": "gru",
            "frames": 4,
            "stride": 1,
        }
    )
    batch = make_batch(model.plan, 1, num_units=1)
    (view,) = batch.action_units
    batch.action_units[view] = torch.tensor([[[-1], [-1], [-1], [4]]], dtype=torch.int8)
    batch.frames[view].requires_grad_(True)
    model(batch).loss.backward()
    gradient = batch.frames[view].grad
    assert gradient is not None
    assert bool((gradient.abs().sum((2, 3, 4)) > 0).all())


def test_cells_tell_the_head_where_in_the_map_the_state_stands() -> None:
    """A map and its mirror image have one mean; the means of their halves differ."""
    objective = ActionUnits(feature_dim=6, units=(12,), context="gru", width=4, cells=2)
    maps = torch.randn(1, 1, 6, 4, 4)
    seen = [
        objective._features(SimpleNamespace(maps=lambda view, offsets, shown=shown: shown))  # type: ignore[arg-type]
        for shown in (maps, maps.flip(-1))
    ]
    assert seen[0].shape == (1, 1, 4 * 2 * 2)
    places = [found.unflatten(-1, (4, 2, 2)) for found in seen]
    torch.testing.assert_close(places[0], places[1].flip(-1))
    assert not torch.allclose(places[0], places[1])


def test_labels_of_another_corpus_are_refused() -> None:
    model = make_model(au={"_target_": TARGET})
    with pytest.raises(ValueError, match=r"action_units\.units"):
        model(make_batch(model.plan, 1, num_units=3))


CODING: dict[str, Any] = {
    "_target_": "ausl_dist.objectives.predictive_coding.PredictiveCoding",
    "blocks": 3,
    "predicted": 1,
    "width": 8,
}
SECOND_STAGE: dict[str, Any] = {
    "_target_": TARGET,
    "task": "intensity",
    "context": "gru",
    "width": 8,
    "frames": 3,
}


def stored_objectives(model: JointModel, path: Path) -> Path:
    """As a checkpoint keeps them."""
    save_file(dict(model.objectives.state_dict()), path / "objectives.safetensors")
    return path / "objectives.safetensors"


def test_the_temporal_module_of_the_first_stage_begins_the_second(tmp_path: Path) -> None:
    first = make_model(coding=CODING, seed=1)
    path = stored_objectives(first, tmp_path)
    second = make_model(au={**SECOND_STAGE, "context_weights": str(path)}, seed=2)
    coding: Any = first.objectives["coding"]
    au: Any = second.objectives["au"]
    maps = torch.randn(2, first.backbone.dim, 2, 2)
    torch.testing.assert_close(au.reduce(maps), coding.reduce(maps))
    x, state = torch.randn(2, 8, 2, 2), torch.randn(2, 8, 2, 2)
    coding.eval()  # without the dropout of the first stage
    torch.testing.assert_close(au.gru(x, state), coding.aggregate(x, state))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [({"width": 16}, "do not fit"), ({"context": "none"}, "belong to context=gru")],
)
def test_a_temporal_module_that_does_not_fit_is_refused(
    tmp_path: Path, changed: dict[str, Any], complaint: str
) -> None:
    path = stored_objectives(make_model(coding=CODING), tmp_path)
    with pytest.raises(ValueError, match=complaint):
        make_model(au={**SECOND_STAGE, **changed, "context_weights": str(path)})


def test_a_checkpoint_without_a_temporal_module_is_refused(tmp_path: Path) -> None:
    path = stored_objectives(make_model(), tmp_path)
    with pytest.raises(ValueError, match="must hold one ConvGRU, it holds 0"):
        make_model(au={**SECOND_STAGE, "context_weights": str(path)})
    with pytest.raises(
        ValueError, match=r"must be RUN/checkpoints/STEP/objectives.safetensors"
    ):
        make_model(
            au={**SECOND_STAGE, "context_weights": str(tmp_path / "nothing.safetensors")}
        )


def test_dice_weighs_rare_units_as_cross_entropy_does() -> None:
    guess, known = torch.tensor([[[0.5, 0.5]]]), torch.ones(1, 1, 2)
    present = torch.tensor([[[1.0, 0.0]]])
    # 1 - (2 * 0.5 + 1) / (0.25 + 1 + 1) = 1 / 9, and 1 - 1 / (0.25 + 1) = 1 / 5
    weighed = dice_loss(guess, present, known, torch.tensor([1.6, 0.4]))
    assert float(weighed) == pytest.approx((1.6 / 9 + 0.4 / 5) / 2)


INPAINTING: dict[str, Any] = {
    "_target_": "ausl_dist.objectives.roi_inpainting.RoiInpainting",
    "width": 16,
    "heads": 2,
}
REGIONAL: dict[str, Any] = {"_target_": TARGET, "regions": "inpainting", "region_width": 16}


def test_related_region_tokens_serve_the_recognition_of_units() -> None:
    model = make_model(inpainting=INPAINTING, au=REGIONAL)
    model.weights["inpainting"] = 0.0
    batch = make_batch(model.plan, 3)
    loss = model(batch).loss
    loss.backward()
    tokens: Any = model.objectives["inpainting"].regions
    for part in (tokens.token.weight, tokens.where.weight, *tokens.relate.parameters()):
        assert part.grad.abs().sum() > 0
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < losses[0]


def test_a_frame_without_landmarks_is_judged_by_the_global_feature_alone() -> None:
    model = make_model(inpainting=INPAINTING, au=REGIONAL)
    alone = make_model(au={"_target_": TARGET})
    alone.backbone.load_state_dict(model.backbone.state_dict())
    alone.objectives["au"].load_state_dict(
        {k: v for k, v in model.objectives["au"].state_dict().items() if "region" not in k}
    )
    model.weights["inpainting"] = 0.0
    batch = make_batch(model.plan, 2)
    with_regions = float(model(batch).loss.detach())
    batch.landmarks = {
        view: torch.full_like(p, torch.nan) for view, p in batch.landmarks.items()
    }
    without = float(model(batch).loss.detach())
    assert without == pytest.approx(float(alone(batch).loss.detach()), rel=1e-5)
    assert without != with_regions


def test_region_tokens_of_an_objective_that_is_not_there_are_refused() -> None:
    model = make_model(au=REGIONAL)
    with pytest.raises(ValueError, match="no objective inpainting with a module regions"):
        model(make_batch(model.plan, 2))

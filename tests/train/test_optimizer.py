"""Parameter groups: every weight in exactly one, with the decay and rate that are meant for it."""

import pytest
from torch import nn

from ausl_dist.model.joint import JointModel
from ausl_dist.train.optimizer import make_optimizer, parameter_groups, set_values
from ausl_dist.train.settings import OptimizerSettings
from tests.support.tiny import BATCH_NORM, TRANSFORMER, make_model


def group_of(model: JointModel, settings: OptimizerSettings) -> dict[str, tuple[bool, float]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, tuple[bool, float]] = {}
    for group in parameter_groups(model, settings):
        for parameter in group["params"]:  # type: ignore[attr-defined]
            assert names[parameter] not in found, "in two groups"
            found[names[parameter]] = (bool(group["decays"]), float(group["rate_scale"]))  # type: ignore[arg-type]
    assert found.keys() == dict(model.named_parameters()).keys()
    return found


@pytest.mark.parametrize("backbone", [BATCH_NORM, TRANSFORMER])
def test_vectors_and_what_the_backbone_names_do_not_decay(backbone: str) -> None:
    model = make_model(backbone=backbone)
    groups = group_of(model, OptimizerSettings())
    assert {scale for _, scale in groups.values()} == {1.0}
    for name, parameter in model.named_parameters():
        assert groups[name][0] == (
            parameter.ndim >= 2 and not name.endswith(("pos_embed", "cls_token"))
        ), name


def test_layers_learn_slower_the_earlier_they_are_and_heads_at_their_own_rate() -> None:
    groups = group_of(
        make_model(backbone=TRANSFORMER), OptimizerSettings(layer_decay=0.5, head_rate=4.0)
    )
    scale = {name.removeprefix("backbone.net."): scale for name, (_, scale) in groups.items()}
    assert scale["norm.weight"] == 1.0
    assert (
        scale["blocks.1.norm1.weight"]
        == 2 * scale["blocks.0.norm1.weight"]
        == 4 * scale["patch_embed.proj.weight"]
    )
    assert {scale for name, (_, scale) in groups.items() if name.startswith("objectives.")} == {
        4.0
    }


def test_a_step_sets_each_groups_share_of_rate_and_decay() -> None:
    settings = OptimizerSettings(layer_decay=0.5)
    optimizer = make_optimizer(make_model(backbone=TRANSFORMER), settings)
    set_values(optimizer, 0.2, 0.7)
    for group in optimizer.param_groups:
        assert group["lr"] == 0.2 * group["rate_scale"]
        assert group["weight_decay"] == (0.7 if group["decays"] else 0.0)


def test_a_backbone_that_does_not_know_its_layers_is_refused() -> None:
    model = make_model()
    model.backbone.net = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="layer_decay"):
        parameter_groups(model, OptimizerSettings(layer_decay=0.5))

"""Masked video: hidden pixels are hidden from the backbone, and alone count in the loss."""

from typing import Any

import pytest
import torch

from ausl_dist.model.joint import JointModel
from ausl_dist.objectives.base import BatchView
from ausl_dist.objectives.masked_video import MaskedVideo, _positions
from tests.support.tiny import TRANSFORMER, make_batch, make_model

TARGET = "ausl_dist.objectives.masked_video.MaskedVideo"
DROP: dict[str, Any] = {
    "encoder": "drop",
    "normalise": True,
    "decoder_width": 32,
    "decoder_layers": 1,
    "decoder_heads": 2,
    "ratio": 0.5,
}


def small(backbone: str = "test_convnext", **settings: Any) -> tuple[JointModel, MaskedVideo]:
    model = make_model(backbone=backbone, masked={"_target_": TARGET, "patch": 8, **settings})
    objective = model.objectives["masked"]
    assert isinstance(objective, MaskedVideo)
    return model, objective


def test_hidden_pixels_do_not_reach_the_backbone() -> None:
    model, objective = small()
    batch = make_batch(model.plan, 2)
    shown: list[torch.Tensor] = []

    def encode(frames: torch.Tensor, visible: torch.Tensor | None = None) -> object:
        shown.append(frames)
        return model.encode(frames, visible)

    objective(BatchView(batch, model.plan.views, encode, None))  # type: ignore[arg-type]
    (pixels,) = batch.frames.values()
    hidden = (shown[0] == 0).all(2)
    assert float(hidden.float().mean()) == pytest.approx(0.75)
    assert torch.equal(shown[0][:, :, 0][~hidden], pixels[:, :, 0][~hidden])


def test_tokens_left_out_of_a_transformer_cannot_matter() -> None:
    model, objective = small(TRANSFORMER, **(DROP | {"patch": 16}))
    batch = make_batch(model.plan, 2, image_size=32)
    seen = BatchView(batch, model.plan.views, model.encode, None)
    hidden = objective._hide(seen, 2)
    (pixels,) = batch.frames.values()
    hole = hidden.repeat_interleave(16, -1).repeat_interleave(16, -2)[:, :, None]
    model.eval()
    tokens = model.encode(pixels, ~hidden).maps
    assert tokens.shape[-2:] == (1, 2)
    torch.testing.assert_close(tokens, model.encode(pixels + 9 * hole, ~hidden).maps)
    model(batch).loss.backward()


def test_all_tokens_visible_is_the_whole_transformer() -> None:
    model, _ = small(TRANSFORMER, **(DROP | {"patch": 16}))
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    pooled, maps = model.backbone(images)
    some_pooled, tokens = model.backbone(images, torch.ones(2, 2, 2, dtype=torch.bool))
    torch.testing.assert_close(tokens.flatten(2), maps.flatten(2))
    torch.testing.assert_close(some_pooled, pooled)


def test_a_tube_hides_the_same_places_in_all_frames() -> None:
    model, objective = small(frames=3, tube=True)
    hidden = objective._hide(
        BatchView(make_batch(model.plan, 4), model.plan.views, model.encode, None), 4
    )
    assert torch.equal(hidden[:, 0], hidden[:, 2])
    assert hidden.sum((2, 3)).unique().tolist() == [12]
    assert not torch.equal(hidden[0], hidden[1])


def test_choices_do_not_depend_on_the_batch_around_a_clip() -> None:
    """Two ranks hide what one rank would hide."""
    model, objective = small()
    batch = make_batch(model.plan, 4)
    whole = objective._hide(BatchView(batch, model.plan.views, model.encode, None), 4)
    batch.keys, batch.weight = batch.keys[2:], batch.weight[2:]
    assert torch.equal(
        whole[2:], objective._hide(BatchView(batch, model.plan.views, model.encode, None), 4)
    )


def test_positions_differ_in_time_row_and_column() -> None:
    codes = _positions(2, 3, 32)[0].flatten(0, 1)
    assert codes.shape == (18, 32)
    assert len(codes.unique(dim=0)) == 18


def test_dropping_tokens_asks_for_a_transformer_of_this_patch() -> None:
    model, _ = small(**(DROP | {"patch": 16}))
    with pytest.raises(ValueError, match="encoder=fill"):
        model(make_batch(model.plan, 1))
    model, _ = small(TRANSFORMER, **DROP)
    with pytest.raises(ValueError, match="patch size"):
        model(make_batch(model.plan, 1))
    model, _ = small(patch=32)
    with pytest.raises(ValueError, match="do not tile"):
        model(make_batch(model.plan, 1))


def test_a_deviation_is_painted_at_every_patch_in_its_own_spread() -> None:
    model, objective = small(target="deviation", reads="pooled", frames=4, stride=2)
    batch = make_batch(model.plan, 3)
    for points in batch.landmarks.values():
        points[2] = torch.nan  # it has none: does not count
    outcome = model(batch)
    assert objective.spread is not None
    # who guesses nothing is wrong by one spread, here a little more for what is guessed at first
    assert 0.5 < float(outcome.logs["masked/unexplained"]) < 3
    assert float(outcome.logs["masked/usable"]) == pytest.approx(2 / 3)
    model.after_step(True)
    assert float(objective.spread.weight) > 0
    two = model(batch.cut(0, 2)).loss
    assert float(two.detach()) == pytest.approx(float(model(batch).loss.detach()), rel=1e-4)


@pytest.mark.parametrize("wrong", [{"frames": 1}, {"normalise": True}, DROP])
def test_a_deviation_is_of_frames_as_they_are(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="target=deviation"):
        MaskedVideo(feature_dim=8, target="deviation", **({"frames": 4} | wrong))

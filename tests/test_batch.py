"""A batch is selected, joined and moved whole: no field is left behind, whatever it holds."""

import dataclasses

import pytest
import torch

from ausl_dist.batch import Batch, Needs, View

NEEDS = Needs(
    {View(): (0, 2), View(flip=0.5): (1,)},
    landmarks=True,
    mean_face=True,
    identity=True,
    action_units=True,
    flow_gap=3,
)


@pytest.fixture
def batch() -> Batch:
    batch = Batch.random(NEEDS, 6, image_size=8, num_units=4)
    batch.weight[2] = 0.0
    return batch


def test_a_random_batch_fills_every_field(batch: Batch) -> None:
    for field in dataclasses.fields(Batch):
        if field.init and field.name != "step":
            assert getattr(batch, field.name) not in (None, {}), field.name


def test_clips_are_selected_with_all_that_belongs_to_them(batch: Batch) -> None:
    chosen = batch.select([4, 2, 4])
    assert chosen.keys == (batch.keys[4], batch.keys[2], batch.keys[4])
    assert chosen.valid == [0, 2]
    for one, other in zip(chosen.tensors(), batch.tensors(), strict=True):
        assert torch.equal(one, other[[4, 2, 4]])


def test_what_was_cut_is_joined_again(batch: Batch) -> None:
    joined = Batch.join([batch.cut(0, 1), batch.cut(1, 4), batch.cut(4, 6)])
    assert joined.keys == batch.keys
    assert joined.valid == batch.valid
    for one, other in zip(joined.tensors(), batch.tensors(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("needs", "complaint"),
    [
        (dataclasses.replace(NEEDS, identity=False), "must all have identity"),
        (dataclasses.replace(NEEDS, flow_gap=0), "same views in flow"),
    ],
)
def test_batches_that_hold_other_parts_are_not_joined(
    batch: Batch, needs: Needs, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Batch.join([batch, Batch.random(needs, 2, image_size=8, num_units=4)])


def test_needs_of_several_are_needs_again() -> None:
    other = Needs({View(): (2, 5)}, flow_gap=3)
    together = Needs.union([NEEDS, other])
    assert together.views[View()] == (0, 2, 5)
    assert Needs.union([together]) == together
    with pytest.raises(ValueError, match="one gap"):
        Needs.union([NEEDS, Needs({View(): (0,)}, flow_gap=4)])

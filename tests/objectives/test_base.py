"""The helpers across ranks: means and gradients over any number of ranks are those of one."""

import math

import pytest
import torch

from ausl_dist.objectives.base import gather, masked_mean, rank, world_size
from tests.support.ranks import run_ranks
from tests.support.tiny import make_batch, make_model

VALUES = torch.tensor([1.0, -2.0, 3.0, 0.5, 4.0, -1.0])
# uneven over two ranks, and rank 1 of three has one value
MASK = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])


def join(init: bool = True) -> None:
    if init and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def mean_on_rank() -> tuple[float, torch.Tensor]:
    join()
    size = len(VALUES) // world_size()
    part = slice(rank() * size, (rank() + 1) * size)
    scale = torch.ones(1, requires_grad=True)
    share = masked_mean(VALUES[part] * scale**2, MASK[part])
    share.backward()
    return float(share.detach()), scale.grad


@pytest.mark.parametrize("ranks", [2, 3])
def test_masked_mean_averaged_over_ranks_is_the_global_one(ranks: int) -> None:
    results = run_ranks(mean_on_rank, ranks)
    wanted = float(VALUES[MASK.bool()].mean())
    assert sum(value for value, _ in results) / ranks == pytest.approx(wanted)
    assert float(sum(gradient for _, gradient in results)) / ranks == pytest.approx(2 * wanted)


def test_masked_mean_ignores_what_is_masked_even_nan_and_is_zero_of_nothing() -> None:
    values = torch.tensor([2.0, math.nan], requires_grad=True)
    mean = masked_mean(values, torch.tensor([1.0, 0.0]))
    mean.backward()
    assert mean.item() == 2.0
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0]
    nothing = torch.tensor([math.inf, 1.0], requires_grad=True)
    masked_mean(nothing, torch.zeros(2)).backward()
    assert nothing.grad is not None
    assert nothing.grad.tolist() == [0.0, 0.0]


def gathered_on_rank() -> tuple[torch.Tensor, torch.Tensor]:
    join()
    size = len(VALUES) // world_size()
    own = VALUES[rank() * size : (rank() + 1) * size].clone().requires_grad_(True)
    everything = gather(own)
    # Each own value against all: the kind of loss that contrasts with other ranks' clips.
    loss = (own[:, None] * everything[None, :]).exp().sum(1).log().mean()
    loss.backward()
    return everything.detach(), own.grad


def test_gather_sends_gradients_back_as_if_all_clips_were_on_one_rank() -> None:
    alone = VALUES.clone().requires_grad_(True)
    (alone[:, None] * alone[None, :]).exp().sum(1).log().mean().backward()
    results = run_ranks(gathered_on_rank, 2)
    assert all(torch.equal(everything, VALUES) for everything, _ in results)
    # data-parallel averaging of what each rank adds
    averaged = torch.cat([gradient for _, gradient in results]) / 2
    torch.testing.assert_close(averaged, alone.grad)


def test_each_view_is_encoded_once_however_many_objectives_look_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranking = {
        "_target_": "ausl_dist.objectives.temporal_ranking.TemporalRanking",
        "embedding_dim": 8,
        "batch_norm": "merged",
    }
    model = make_model(near={**ranking, "n_far": 2}, far={**ranking, "n_far": 2, "spacing": 3})
    seen: list[int] = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    model(make_batch(model.plan, 2))
    assert seen == [2 * len({0, 1, 2, 3, 4, 7})]

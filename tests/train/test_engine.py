"""The engine: every ZeRO stage and precision trains alike, on one rank or two, in one piece or
several; nothing spoils the weights.
"""

import contextlib
import math
import os
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ausl_dist.batch import Batch, Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, rank
from ausl_dist.train import engine as engine_of
from ausl_dist.train.accumulation import split
from ausl_dist.train.deepspeed_config import deepspeed_config
from ausl_dist.train.engine import Engine, Outcome
from ausl_dist.train.optimizer import parameter_groups
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.settings import EngineSettings, OptimizerSettings
from tests.support.ranks import run_ranks
from tests.support.tiny import BATCH_NORM, make_batch, make_model
from tests.support.zero import as_if_large

CLIPS = 4
STEPS = 3
TIMEOUT = 100.0

Config = dict[str, Any]


def plain_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    groups = parameter_groups(model, settings)  # type: ignore[arg-type]
    for group in groups:
        group["lr"] = settings.learning_rate * group["rate_scale"]  # type: ignore[operator]
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.learning_rate, betas=settings.betas)


def reference(batches: list[Batch], settings: OptimizerSettings) -> list[tuple[float, float]]:
    """The same training in plain torch on one process: loss and gradient norm of each step."""
    model = make_model()
    optimizer = plain_optimizer(model, settings)
    done = []
    for batch in batches:
        optimizer.zero_grad()
        loss = model(batch).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf)
        optimizer.step()
        done.append((float(loss.detach()), float(norm)))
    return done


def my_part(batch: Batch) -> Batch:
    return split(batch, dist.get_world_size())[dist.get_rank()]


def train(configs: list[Config]) -> list[list[tuple[float, float]]]:
    """Train with each config after the other in the same processes."""
    device = start_ranks(EngineSettings(collective_timeout_seconds=TIMEOUT))
    results = []
    for config in configs:
        options = dict(config)
        optimizer = OptimizerSettings(**options.pop("optimizer", {}))
        model = make_model()
        model.backbone.net.set_grad_checkpointing(
            options.pop("activation_checkpointing", False)
        )
        # as on GPUs: gradients are summed in hooks of the backward pass
        overlapping = options.pop("overlapping", False)
        with overlapping_sums() if overlapping else contextlib.nullcontext():
            engine = Engine(model, EngineSettings(**options), optimizer, device)
        batches = [my_part(make_batch(model.plan, CLIPS, step=step)) for step in range(STEPS)]
        outcomes = [engine.train_step(batch, optimizer.learning_rate) for batch in batches]
        assert all(outcome.bad is None for outcome in outcomes)
        assert all(
            outcome.seconds["reduce"] > 0 and min(outcome.seconds.values()) >= 0
            for outcome in outcomes
        )
        results.append([(outcome.loss, outcome.gradient_norm) for outcome in outcomes])
    return results


def overlapping_sums() -> contextlib.AbstractContextManager[Any]:
    def configured(*arguments: Any) -> dict[str, Any]:
        config = deepspeed_config(*arguments)
        return {
            **config,
            "zero_optimization": {**config["zero_optimization"], "overlap_comm": True},
        }

    return mock.patch.object(engine_of, "deepspeed_config", configured)


def check_against_plain_torch(configs: list[Config], world_size: int) -> None:
    model = make_model()
    batches = [make_batch(model.plan, CLIPS, step=step) for step in range(STEPS)]
    for config, got in zip(
        configs, run_ranks(train, world_size, configs, timeout_seconds=600)[0], strict=True
    ):
        wanted = reference(batches, OptimizerSettings(**config.get("optimizer", {})))
        exact = config.get("precision", "fp32") == "fp32"
        for (loss, norm), (wanted_loss, wanted_norm) in zip(got, wanted, strict=True):
            assert loss == pytest.approx(wanted_loss, rel=1e-4 if exact else 0.1), config
            assert norm == pytest.approx(wanted_norm, rel=1e-3 if exact else 0.1), config


def test_every_stage_trains_like_plain_torch_on_one_rank() -> None:
    check_against_plain_torch(
        [{"zero_stage": stage, "gradient_accumulation": 2} for stage in (0, 1, 2, 3)], 1
    )


def test_every_setting_trains_like_plain_torch_on_two_ranks() -> None:
    rates = {"layer_decay": 0.5, "head_rate": 3.0}
    configs: list[Config] = [
        {"zero_stage": stage, "gradient_accumulation": 2} for stage in (0, 1, 2, 3)
    ]
    configs += [{"zero_stage": stage, "precision": "bf16"} for stage in (1, 2, 3)]
    configs += [{"zero_stage": stage, "precision": "bf16_autocast"} for stage in (0, 1, 3)]
    configs += [{"zero_stage": stage, "offload_optimizer": True} for stage in (2, 3)]
    configs += [{"zero_stage": stage, "activation_checkpointing": True} for stage in (1, 3)]
    configs += [{"zero_stage": stage, "channels_last": True} for stage in (0, 2, 3)]
    configs += [
        {"zero_stage": stage, "gradient_accumulation": 2, "overlapping": True}
        for stage in (1, 2, 3)
    ]
    configs += [{"zero_stage": stage, "optimizer": rates} for stage in (0, 3)]
    configs += [
        {"zero_stage": 1, "optimizer": {"kind": kind, "clip_norm": None}}
        for kind in ("sgd", "adam")
    ]
    check_against_plain_torch(configs, 2)


@pytest.mark.skipif(
    "AUSL_SLOW" not in os.environ, reason="minutes of compiling: set AUSL_SLOW=1"
)
@pytest.mark.timeout(1200)
def test_compiled_every_stage_trains_like_plain_torch() -> None:
    check_against_plain_torch(
        [{"zero_stage": stage, "compile": True} for stage in (0, 1, 2, 3)], 2
    )


class Poison(Objective):
    """A loss that goes wrong at chosen steps: on rank 0, in one slot, in value or in gradient
    alone.
    """

    def __init__(self, *, feature_dim: int, loss_at: int, gradient_at: int) -> None:
        super().__init__()
        self.head = nn.Linear(feature_dim, 1)
        self.loss_at, self.gradient_at = loss_at, gradient_at
        self.register_buffer("committed", torch.zeros(1))

    def needs(self) -> Needs:
        return Needs(views={View(): (0, 1)})

    def forward(self, seen: BatchView) -> Loss:
        values = self.head(seen.pooled(View(), (0, 1))).square().mean((1, 2))
        # the slot's clip, whatever piece of whatever rank it lies in
        first = seen.keys[0].endswith("-0")
        if first and seen.step == self.loss_at:
            values = values * math.nan
        if first and seen.step == self.gradient_at:
            values = _NanBackward.apply(values)
        return Loss(seen.mean(values))

    def after_step(self, taken: bool) -> None:
        self.committed += float(taken)  # type: ignore[operator]


class _NanBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * math.nan


def poisoned(configs: list[Config]) -> list[tuple[list[str | None], bool, float]]:
    device = start_ranks(EngineSettings(collective_timeout_seconds=TIMEOUT))
    results = []
    for config in configs:
        objective = {"_target_": f"{__name__}.Poison", "loss_at": 1, "gradient_at": 3}
        model = make_model(backbone=BATCH_NORM, poison=objective)
        other = make_model(backbone=BATCH_NORM, poison=objective)
        with as_if_large():
            engine = Engine(model, EngineSettings(**config), OptimizerSettings(), device)
            good_only = Engine(other, EngineSettings(**config), OptimizerSettings(), device)
        outcomes: list[Outcome] = []
        for step in range(5):
            batch = my_part(make_batch(model.plan, CLIPS, step=step))
            if step == 4:
                batch.weight.zero_()
            outcomes.append(engine.train_step(batch, 1e-2))
            if step in (0, 2):
                good_only.train_step(my_part(make_batch(model.plan, CLIPS, step=step)), 1e-2)
        same = all(
            torch.equal(mine.master, other.master)
            and all(torch.equal(mine.states[k], other.states[k]) for k in mine.states)
            for mine, other in zip(engine.state.pieces(), good_only.state.pieces(), strict=True)
        )
        same &= all(
            torch.equal(a, b)
            for a, b in zip(
                engine.buffers().values(), good_only.buffers().values(), strict=True
            )
        )
        same &= engine.state.scalars() == good_only.state.scalars()
        results.append(
            (
                [outcome.bad for outcome in outcomes],
                same,
                float(engine.buffers()["objectives.poison.committed"]),
            )
        )
    return results


def test_a_bad_loss_or_gradient_on_one_rank_leaves_everything_as_if_the_step_had_not_been() -> (
    None
):
    configs = [{"zero_stage": stage, "gradient_accumulation": 2} for stage in (0, 1, 2, 3)] + [
        {"zero_stage": 1}
    ]
    for results in run_ranks(poisoned, 2, configs, timeout_seconds=600):
        for config, (bad, same, committed) in zip(configs, results, strict=True):
            assert bad == [None, "loss", None, "gradient", "no clips"], config
            assert same, f"a skipped step left its mark with {config}"
            assert committed == 2, "an objective was told that a skipped step was taken"


def stop_and_statistics() -> tuple[list[bool], bool]:
    device = start_ranks(EngineSettings(collective_timeout_seconds=TIMEOUT))
    model = make_model(backbone=BATCH_NORM)
    engine = Engine(model, EngineSettings(), OptimizerSettings(), device)
    stops = [
        engine.train_step(
            my_part(make_batch(model.plan, CLIPS, step=s)), 1e-3, stop=s == 1 and rank() == 1
        ).stop
        for s in range(3)
    ]
    mine = torch.cat([statistic.flatten() for statistic in model.batch_norm_statistics()])
    both = [torch.empty_like(mine) for _ in range(2)]
    dist.all_gather(both, mine)
    return stops, torch.equal(*both)


def test_all_ranks_hear_of_a_stop_at_the_same_step_and_hold_the_same_batch_norm() -> None:
    for stops, equal in run_ranks(stop_and_statistics, 2):
        assert stops == [False, True, False]
        assert equal


def test_gradients_are_summed_beside_the_backward_pass_where_there_is_somebody_to_sum_with() -> (
    None
):
    """DeepSpeed then waits for the whole GPU in each step, for the loader's decoding too."""

    def overlap(device: str, ranks: int) -> bool:
        config = deepspeed_config(
            EngineSettings(), OptimizerSettings(), 10, torch.device(device), ranks
        )
        return bool(config["zero_optimization"]["overlap_comm"])

    assert [overlap("cuda", 1), overlap("cuda", 2), overlap("cpu", 2)] == [False, True, False]


def test_what_deepspeed_cannot_combine_is_refused() -> None:
    with pytest.raises(ValueError, match="bf16_autocast"):
        EngineSettings(zero_stage=0, precision="bf16")
    with pytest.raises(ValueError, match="needs a GPU"):
        EngineSettings(precision="fp16", device="cpu")
    with pytest.raises(ValueError, match="part of ZeRO"):
        EngineSettings(zero_stage=0, offload_optimizer=True)
    with pytest.raises(ValueError, match="batch norm"):
        Engine(
            make_model(backbone=BATCH_NORM),
            EngineSettings(precision="bf16"),
            OptimizerSettings(),
            torch.device("cpu"),
        )
    scalar = make_model()
    scalar.register_parameter("temperature", nn.Parameter(torch.tensor(1.0)))
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        Engine(scalar, EngineSettings(), OptimizerSettings(), torch.device("cpu"))
    with pytest.raises(ValueError, match="does not divide"):
        split(make_batch(make_model().plan, 3), 2)


def test_starting_outside_a_launcher_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="RANK"):
        start_ranks(EngineSettings())

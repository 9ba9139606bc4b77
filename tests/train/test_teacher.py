"""The teacher is the average of the engine's exact weights, under every ZeRO stage."""

import pytest
import torch
from torch import nn

from ausl_dist.batch import Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective
from ausl_dist.train.engine import Engine
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.settings import EngineSettings, OptimizerSettings
from ausl_dist.train.teacher import Teacher
from tests.support.ranks import run_ranks
from tests.support.tiny import RANKING, make_batch, make_model
from tests.train.test_engine import CLIPS, TIMEOUT, Config, my_part, plain_optimizer


def teach(configs: list[Config]) -> list[tuple[float, list[float]]]:
    """For each config: how far the teacher is from the average of the engine's own exact
    weights, and the losses.
    """
    device = start_ranks(EngineSettings(collective_timeout_seconds=TIMEOUT))
    results = []
    for config in configs:
        model = make_model(taught=TAUGHT)
        engine = Engine(model, EngineSettings(**config), OptimizerSettings(), device)
        plain = dict(make_model(taught=TAUGHT).named_parameters())
        assert engine.teacher is not None
        average = {
            name: plain[name].detach().clone() for name in engine.teacher.parameter_names
        }
        losses = []
        for step, momentum in enumerate(MOMENTA):
            batch = my_part(make_batch(model.plan, CLIPS, step=step))
            losses.append(engine.train_step(batch, 1e-2, teacher_momentum=momentum).loss)
            whole = {
                name: engine.state.whole(dict(engine.model.named_parameters())[name])
                for name in average
            }
            average = {
                name: momentum * average[name] + (1 - momentum) * whole[name]
                for name in average
            }
        results.append(
            (
                max(
                    float((engine.teacher.state()[name] - average[name]).abs().max())
                    for name in average
                ),
                losses,
            )
        )
    return results


def taught_in_plain_torch() -> list[float]:
    """The losses of a student and its average, written out."""
    model = make_model(taught=TAUGHT)
    teacher = model.teacher = Teacher(model, torch.device("cpu"))
    optimizer = plain_optimizer(model, OptimizerSettings(learning_rate=1e-2))
    average = {
        name: dict(model.named_parameters())[name].detach().clone()
        for name in teacher.parameter_names
    }
    losses = []
    for step, momentum in enumerate(MOMENTA):
        optimizer.zero_grad()
        loss = model(make_batch(model.plan, CLIPS, step=step)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        student = {name: parameter.detach() for name, parameter in model.named_parameters()}
        average = {
            name: momentum * average[name] + (1 - momentum) * student[name] for name in average
        }
        teacher.load_state(teacher.state() | average)
        losses.append(float(loss.detach()))
    return losses


TAUGHT: Config = {"_target_": f"{__name__}.Taught"}
MOMENTA = (0.9, 0.5, 0.99)  # of the steps


class Taught(Objective):
    """Pulls the student to the teacher."""

    needs_teacher = True
    teacher_momentum = 0.9
    taught = ("head",)

    def __init__(self, *, feature_dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(feature_dim, 8)

    def needs(self) -> Needs:
        return Needs(views={View(): (0, 1)})

    def forward(self, seen: BatchView) -> Loss:
        target = seen.teacher_module(self, "head")(seen.teacher_pooled(View(), (0, 1)).float())
        return Loss(
            seen.mean(
                (self.head(seen.pooled(View(), (0, 1))).float() - target - 1)
                .square()
                .mean((1, 2))
            )
        )


def test_the_teacher_is_that_of_plain_torch_under_every_stage_and_the_average_of_exact_weights() -> (
    None
):
    configs: list[Config] = [{"zero_stage": stage} for stage in (0, 1, 2, 3)] + [
        {"zero_stage": 2, "precision": "bf16"}
    ]
    wanted = taught_in_plain_torch()
    for results in run_ranks(teach, 2, configs, timeout_seconds=600):
        for config, (error, losses) in zip(configs, results, strict=True):
            assert error < 1e-6, config
            assert losses == pytest.approx(
                wanted, rel=0.1 if "precision" in config else 1e-3
            ), config


def test_objectives_cannot_want_two_momenta_of_one_teacher() -> None:
    model = make_model(one=TAUGHT, two=TAUGHT, three=RANKING)
    model.objectives["two"].teacher_momentum = 0.5  # type: ignore[assignment]
    with pytest.raises(ValueError, match="one momentum"):
        Teacher(model, torch.device("cpu"))

"""Values that change over a run, as pure functions of the step: a resume needs no state for
them.
"""

import math
from dataclasses import dataclass

from ausl_dist.train.settings import OptimizerSettings, RunSettings


@dataclass(frozen=True)
class StepValues:
    """What a step is told."""

    learning_rate: float
    weight_decay: float
    teacher_momentum: float | None  # None where nothing is averaged
    weights: dict[str, float]  # of the objectives in the summed loss


def values_at(step: int, settings: RunSettings, teacher_momentum: float | None) -> StepValues:
    """The values of a step; `teacher_momentum` is what the objectives want at the beginning."""
    optimizer, final_momentum = settings.optimizer, settings.teacher_final_momentum
    done = step / max(settings.steps - 1, 1)
    if teacher_momentum is not None and final_momentum is not None:
        teacher_momentum = _half_cosine(teacher_momentum, final_momentum, done)
    final_decay = (
        optimizer.weight_decay
        if optimizer.final_weight_decay is None
        else optimizer.final_weight_decay
    )
    ramp = min(step / (settings.mixture_ramp_steps or max(settings.steps - 1, 1)), 1.0)
    weights = {
        name: weight + ramp * (settings.mixture_final.get(name, weight) - weight)
        for name, weight in settings.mixture.items()
    }
    rate = learning_rate(step, settings.steps, optimizer)
    return StepValues(
        rate, _half_cosine(optimizer.weight_decay, final_decay, done), teacher_momentum, weights
    )


def learning_rate(step: int, total_steps: int, settings: OptimizerSettings) -> float:
    """Linear warm-up to the full rate, then a half cosine down to `final_share` of it (or
    constant).

    `step` counts from 0. The last warm-up step already has the full rate, the last step of all
    has the final one.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    length = max(total_steps - 1 - settings.warmup_steps, 1)
    done = min((step - settings.warmup_steps) / length, 1.0)
    return _half_cosine(
        settings.learning_rate, settings.learning_rate * settings.final_share, done
    )


def _half_cosine(start: float, final: float, done: float) -> float:
    return final + (start - final) * 0.5 * (1 + math.cos(math.pi * done))

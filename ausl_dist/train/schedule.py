"""Values that change over a run, as pure functions of the step: a resume needs no state for them."""

import math

from ausl_dist.train.settings import OptimizerSettings


def learning_rate(step: int, total_steps: int, settings: OptimizerSettings) -> float:
    """Linear warm-up to the full rate, then a half cosine down to `final_share` of it (or constant).

    `step` counts from 0. The last warm-up step already has the full rate, the last step of all has the final one.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    length = max(total_steps - 1 - settings.warmup_steps, 1)
    done = min((step - settings.warmup_steps) / length, 1.0)
    final = settings.learning_rate * settings.final_share
    return final + (settings.learning_rate - final) * 0.5 * (1 + math.cos(math.pi * done))

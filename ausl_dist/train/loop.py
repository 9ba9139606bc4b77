"""The training loop.

Step k is a pure function of the state after step k - 1 and of k itself: data, learning rate and random numbers are all computed from k.
So a run that is killed and started again from a checkpoint repeats, bit for bit, what it would have done.
"""

import math
import time

import torch

from ausl_dist.batch import Batch
from ausl_dist.files import append_json_line
from ausl_dist.observe.observer import StepRecord
from ausl_dist.randomness import stable_hash
from ausl_dist.train.engine import Outcome
from ausl_dist.train.exits import Exit
from ausl_dist.train.health import feature_health
from ausl_dist.train.run import Run
from ausl_dist.train.schedule import learning_rate

BAD_BATCHES_FILE = "bad_batches.jsonl"


class DivergedError(RuntimeError):
    """Too many steps in a row had to be left out."""


def train(run: Run) -> Exit:
    """Train from the run's next step to its last, or until some rank is asked to stop; then everything is saved."""
    settings = run.settings
    for step in range(run.start_step, settings.steps):
        started = time.perf_counter()
        torch.manual_seed(stable_hash(settings.seed, "step", step, run.rank))

        run.enter("data")
        batch = next(run.loader)
        data_seconds = time.perf_counter() - started

        run.enter("step")
        rate = learning_rate(step, settings.steps, settings.optimizer)
        outcome = run.engine.train_step(batch, rate, stop=run.stop.asked)
        _count_bad_step(run, batch, outcome)
        logs = outcome.logs | _health(run, step, outcome)
        if settings.health.gradients_every_steps is not None and step % settings.health.gradients_every_steps == 0:
            logs |= run.engine.model.gradient_report(batch.to(run.engine.device))

        run.enter("save")
        saving = time.perf_counter()
        last = outcome.stop or step + 1 == settings.steps
        if last or (step + 1) % settings.checkpoint.every_steps == 0:
            run.save(step + 1)
        ended = time.perf_counter()
        seconds = {"data": data_seconds, **outcome.seconds, "save": ended - saving, "total": ended - started}
        run.observer.step(_record(run, batch, outcome, logs, rate, seconds))
        run.step_done()
        if outcome.stop:
            return _stopped(run, step + 1)
    run.finish_saving()
    return Exit.DONE


def _stopped(run: Run, step: int) -> Exit:
    run.observer.event("signal", signal=run.stop.signal_name or "on another rank")
    run.finish_saving()
    return Exit.DONE if step == run.settings.steps else Exit.PREEMPTED


def _record(run: Run, batch: Batch, outcome: Outcome, logs: dict[str, float], rate: float, seconds: dict[str, float]) -> StepRecord:
    return StepRecord(
        step=batch.step,
        clips=int(batch.weight.count_nonzero()),
        frames=sum(frames.shape[0] * frames.shape[1] for frames in batch.frames.values()),
        loss=outcome.loss,
        logs=logs,
        seconds=seconds,
        learning_rate=rate,
        gradient_norm=outcome.gradient_norm,
        skipped=outcome.bad is not None,
        loader_blocked=run.loader.blocked_seconds,
        loader_counts=run.loader.counts,
    )


def _count_bad_step(run: Run, batch: Batch, outcome: Outcome) -> None:
    """Keep the clips of a step that was left out; give up when there is one after the other."""
    if outcome.bad is None:
        run.bad_steps_in_a_row = 0
        return
    run.bad_steps_in_a_row += 1
    append_json_line(
        run.folder / BAD_BATCHES_FILE, {"step": batch.step, "rank": run.rank, "bad": outcome.bad, "keys": list(batch.keys)}
    )
    if run.bad_steps_in_a_row >= run.settings.watch.max_bad_steps:
        raise DivergedError(
            f"{run.bad_steps_in_a_row} steps in a row up to step {batch.step} were left out ({outcome.bad}); their clips are in "
            f"{run.folder / BAD_BATCHES_FILE}. A lower optimizer.learning_rate or engine.precision=fp32 may help"
        )


def _health(run: Run, step: int, outcome: Outcome) -> dict[str, float]:
    """Numbers that show a collapse, every now and then; an event when an embedding collapses."""
    settings = run.settings.health
    if step % settings.every_steps:
        return {}
    logs: dict[str, float] = {}
    for name, embedding in outcome.embeddings.items():
        health = feature_health(embedding)
        enough = len(embedding) > 4 * settings.min_effective_rank  # a handful of rows has a low rank whatever they are
        collapsed = enough and health.get("effective_rank", math.inf) < settings.min_effective_rank
        if collapsed and name not in run.collapsed:
            run.observer.event("collapse", objective=name, **health)
        (run.collapsed.add if collapsed else run.collapsed.discard)(name)
        logs |= {f"{name}/{key}": value for key, value in health.items()} | {f"{name}/collapsed": float(collapsed)}
    return logs

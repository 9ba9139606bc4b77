"""The training loop.

Step k is a pure function of the state after step k - 1 and of k itself: data, learning rate and
random numbers are all computed from k. So a run that is killed and started again from a checkpoint
repeats, bit for bit, what it would have done.
"""

import math
import time

import torch

from ausl_dist.batch import Batch
from ausl_dist.files import append_json_line
from ausl_dist.observe.observer import StepRecord
from ausl_dist.randomness import stable_hash
from ausl_dist.run_folder import BAD_BATCHES_FILE
from ausl_dist.train.engine import Outcome
from ausl_dist.train.exits import Exit
from ausl_dist.train.health import feature_health
from ausl_dist.train.run import Run
from ausl_dist.train.schedule import values_at
from ausl_dist.train.stability import Trouble, is_left_out


def train(run: Run) -> Exit:
    """Train from the run's next step to its last, or until some rank is asked to stop; then
    everything is saved.
    """
    while True:
        ended = _train_until_trouble(run)
        if isinstance(ended, Exit):
            return ended
        run.rewind(ended)


def _train_until_trouble(run: Run) -> Exit | Trouble:
    settings = run.settings
    for step in range(run.course.start_step, settings.steps):
        started = time.perf_counter()
        torch.manual_seed(stable_hash(settings.seed, "step", step, run.rank))

        run.enter("data")
        batch = next(run.loader)
        data_seconds = time.perf_counter() - started
        if is_left_out(step, run.rewinds):
            run.step_done()
            continue

        run.enter("step")
        teacher = run.engine.teacher
        values = values_at(step, settings, None if teacher is None else teacher.momentum)
        run.engine.model.weights.update(values.weights)
        outcome = run.engine.train_step(
            batch,
            values.learning_rate,
            weight_decay=values.weight_decay,
            teacher_momentum=values.teacher_momentum,
            stop=run.stop.asked,
        )
        trouble = _judge(run, batch, outcome)
        logs = outcome.logs | _health(run, step, outcome) | run.online_scores()
        if settings.mixture_final:
            logs |= {f"{name}/weight": weight for name, weight in values.weights.items()}
        if (
            settings.health.gradients_every_steps is not None
            and step % settings.health.gradients_every_steps == 0
        ):
            logs |= run.engine.model.gradient_report(batch.to(run.engine.device))

        run.enter("save")
        saving = time.perf_counter()
        # a rank that was asked to stop still is when the steps have been done again
        stop = outcome.stop and trouble is None
        due = (
            step + 1
        ) % settings.checkpoint.every_steps == 0 and not run.course.stability.suspicious
        if stop or due:
            run.save(step + 1)
        ended = time.perf_counter()
        seconds = {
            "data": data_seconds,
            **outcome.seconds,
            "save": ended - saving,
            "total": ended - started,
        }
        logs |= run.mfu(len(batch), seconds["total"])
        run.observer.step(_record(run, batch, outcome, logs, values.learning_rate, seconds))
        run.step_done()
        if trouble is not None:
            return trouble
        if stop:
            return _stopped(run, step + 1)
    if run.course.start_step < settings.steps and run.saver.saved_step != settings.steps:
        run.save(settings.steps)
    run.finish_saving()
    return Exit.DONE


def _stopped(run: Run, step: int) -> Exit:
    run.observer.event("signal", signal=run.stop.signal_name or "on another rank")
    run.finish_saving()
    return Exit.DONE if step == run.settings.steps else Exit.PREEMPTED


def _record(
    run: Run,
    batch: Batch,
    outcome: Outcome,
    logs: dict[str, float],
    rate: float,
    seconds: dict[str, float],
) -> StepRecord:
    return StepRecord(
        step=batch.step,
        clips=len(batch.valid),
        frames=sum(frames.shape[0] * frames.shape[1] for frames in batch.frames.values()),
        loss=outcome.loss,
        logs=logs,
        seconds=seconds,
        learning_rate=rate,
        gradient_norm=outcome.gradient_norm,
        skipped=outcome.bad is not None,
        loader_blocked=run.loader.blocked_seconds,
        loader_counts=run.loader.counts,
        loader_queues=run.loader.queues,
    )


def _judge(run: Run, batch: Batch, outcome: Outcome) -> Trouble | None:
    """Whether training has gone wrong with this step; the clips of a step that looks like it are
    kept.
    """
    stability = run.course.stability
    trouble = stability.judge(batch.step, outcome.loss, outcome.bad, spikes_count=run.may_rewind)
    if stability.suspicious:
        line = {
            "step": batch.step,
            "rank": run.rank,
            "bad": outcome.bad or "spike",
            "keys": list(batch.keys),
        }
        append_json_line(run.folder / BAD_BATCHES_FILE, line)
    return trouble


def _health(run: Run, step: int, outcome: Outcome) -> dict[str, float]:
    """Numbers that show a collapse, every now and then; an event when an embedding collapses."""
    settings = run.settings.health
    if step % settings.every_steps:
        return {}
    logs: dict[str, float] = {}
    for name, embedding in outcome.embeddings.items():
        health = feature_health(embedding)
        # a handful of rows has a low rank whatever they are
        enough = len(embedding) > 4 * settings.min_effective_rank
        collapsed = enough and health.get("effective_rank", math.inf) < settings.min_effective_rank
        if collapsed and name not in run.collapsed:
            run.observer.event("collapse", objective=name, **health)
        (run.collapsed.add if collapsed else run.collapsed.discard)(name)
        logs |= {f"{name}/{key}": value for key, value in health.items()} | {
            f"{name}/collapsed": float(collapsed)
        }
    return logs

"""What one step leaves behind: its numbers for the metrics, and its clips where it went wrong.

outcome, values ──▶ step_logs ──▶ logs ──┐
batch, outcome, seconds ─────────────────┴──▶ step_record ──▶ observer
"""

import math

from ausl_dist.batch import Batch
from ausl_dist.json_lines import append_json_line
from ausl_dist.observe.observer import StepRecord
from ausl_dist.run_folder import BAD_BATCHES_FILE
from ausl_dist.train.engine import Outcome
from ausl_dist.train.health import feature_health
from ausl_dist.train.run import Run
from ausl_dist.train.schedule import StepValues


def step_logs(run: Run, batch: Batch, outcome: Outcome, values: StepValues) -> dict[str, float]:
    """All numbers of a step by name: what the objectives say, health, online scores, weights."""
    logs = outcome.logs | _health(run, batch.step, outcome) | run.online_scores()
    if run.settings.mixture_final:
        logs |= {f"{name}/weight": weight for name, weight in values.weights.items()}
    every = run.settings.health.gradients_every_steps
    if every is not None and batch.step % every == 0:
        logs |= run.engine.model.gradient_report(batch.to(run.engine.device))
    return logs


def step_record(
    run: Run, batch: Batch, outcome: Outcome, logs: dict[str, float], learning_rate: float
) -> StepRecord:
    """What the observer is told of a step, `seconds` from its beginning to here."""
    phases = run.clock.seconds()
    total = sum(phases.values())
    seconds = {
        "data": phases["data"],
        **outcome.seconds,
        "save": phases["save"],
        "total": total,
    }
    return StepRecord(
        step=batch.step,
        clips=len(batch.valid),
        frames=sum(frames.shape[0] * frames.shape[1] for frames in batch.frames.values()),
        loss=outcome.loss,
        logs=logs | run.mfu(len(batch), total),
        seconds=seconds,
        learning_rate=learning_rate,
        gradient_norm=outcome.gradient_norm,
        skipped=outcome.bad is not None,
        loader_blocked=run.loader.blocked_seconds,
        loader_counts=run.loader.counts,
        loader_queues=run.loader.queues,
    )


def note_bad_batch(run: Run, batch: Batch, outcome: Outcome) -> None:
    """Keep the clips of a step that looks like trouble."""
    line = {
        "step": batch.step,
        "rank": run.place.rank,
        "bad": outcome.bad or "spike",
        "keys": list(batch.keys),
    }
    append_json_line(run.place.folder / BAD_BATCHES_FILE, line)


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
        collapsed = (
            enough and health.get("effective_rank", math.inf) < settings.min_effective_rank
        )
        if collapsed and name not in run.collapsed:
            run.observer.event("collapse", objective=name, **health)
        (run.collapsed.add if collapsed else run.collapsed.discard)(name)
        logs |= {f"{name}/{key}": value for key, value in health.items()}
        logs[f"{name}/collapsed"] = float(collapsed)
    return logs

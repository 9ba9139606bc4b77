"""Seconds of a step, and memory held for the backward pass, of the joint run and of its parts."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ausl_dist.batch import Batch
from ausl_dist.model.joint import JointModel
from ausl_dist.stream.loader import Loader
from ausl_dist.train.memory import kept_for_backward
from ausl_dist.train.settings import RunSettings
from ausl_dist.train.teacher import Teacher
from tools.objective_bench.cases import JOINT, model_of

COST_ROUNDS = 5


def cost(settings: RunSettings, work: Path, device: torch.device) -> None:
    """Seconds of a step (forward and backward) and memory held for the backward pass, all cases
    on the same clips, in turns.
    """
    models = {
        case: _ready(model_of(case, settings), device) for case in [*settings.objectives, JOINT]
    }
    batches = {
        case: _first_batch(settings, model, work).to(device) for case, model in models.items()
    }
    seconds: dict[str, list[float]] = {case: [] for case in models}
    for _ in range(COST_ROUNDS + 1):
        for case, model in models.items():
            seconds[case].append(
                _timed(lambda model=model, batch=batches[case]: _step(model, batch), device)  # type: ignore[misc]
            )
    median = {case: statistics.median(times[1:]) for case, times in seconds.items()}
    single = sum(median[case] for case in settings.objectives)
    print("| step of | seconds | MiB held for backward |\n|---|---|---|")
    for case, model in models.items():
        print(f"| {case} | {median[case]:.3f} | {_held(model, batches[case], False):.0f} |")
    print(f"| sum of single steps | {single:.3f} | |")
    print(f"| joint, bfloat16 autocast | | {_held(models[JOINT], batches[JOINT], True):.0f} |")
    checkpointed = replace(
        settings, backbone=replace(settings.backbone, activation_checkpointing=True)
    )
    model = _ready(model_of(JOINT, checkpointed), device)
    checkpointed_seconds = statistics.median(
        _timed(lambda: _step(model, batches[JOINT]), device) for _ in range(COST_ROUNDS)
    )
    print(
        f"| joint, activation checkpointing | {checkpointed_seconds:.3f} | "
        f"{_held(model, batches[JOINT], False):.0f} |"
    )
    print(f"\nJoint step / sum of single steps: {median[JOINT] / single:.2f}")
    if device.type == "cuda":
        print(f"Peak memory: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")


def _ready(model: JointModel, device: torch.device) -> JointModel:
    model.to(device)
    if model.needs_teacher:
        model.teacher = Teacher(model, device)
    return model


def _first_batch(settings: RunSettings, model: JointModel, work: Path) -> Batch:
    with Loader(
        settings.data, model.plan, seed=0, rank=0, world_size=1, run_folder=work
    ) as loader:
        return next(loader)


def _step(model: JointModel, batch: Batch) -> None:
    model.zero_grad()
    model(batch).loss.backward()
    model.after_step(True)


def _timed(work: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _held(model: JointModel, batch: Batch, bfloat16: bool) -> float:
    """MiB that autograd keeps between forward and backward."""
    precision = torch.autocast(batch.weight.device.type, torch.bfloat16, enabled=bfloat16)
    with kept_for_backward(model) as kept, precision:
        model(batch)
    model.after_step(False)
    return sum(kept.values()) / 2**20

"""What a run does its steps with: model, engine and data, new or as a checkpoint left them.

settings, Resume | None ──▶ model ──▶ engine ──▶ decoder chosen by all ranks ──▶ loader ──▶ TrainingState
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ausl_dist.files import read_json, write_json
from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.randomness import stable_hash
from ausl_dist.run_folder import (
    FLOPS_FILE,
)
from ausl_dist.stream import chosen
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.motion import MOTION_VERSION
from ausl_dist.stream.order import ORDER_VERSION
from ausl_dist.stream.truth import Choice
from ausl_dist.train.arithmetic import arithmetic_of
from ausl_dist.train.engine import Engine
from ausl_dist.train.flops import JOINT, count_flops, peak_flops
from ausl_dist.train.place import RunPlace
from ausl_dist.train.process_group import broadcast_from_rank_0
from ausl_dist.train.resume import Resume
from ausl_dist.train.settings import RunSettings
from ausl_dist.train.stability import Stability
from ausl_dist.train.startup import StartupClock


@dataclass
class TrainingState:
    """What a run does its steps with, as a checkpoint left it, or as new."""

    start_step: int
    engine: Engine
    loader: Loader
    decoding: Choice
    stability: Stability
    # what one clip a second adds to the MFU; None where the device's peak is unknown
    mfu_of_clips_a_second: float | None


def make_state(
    settings: RunSettings,
    place: RunPlace,
    device: torch.device,
    resume: Resume | None,
    clock: StartupClock | None = None,
) -> TrainingState:
    """Model, engine and data, new or as a checkpoint left them; `clock` is told what took how
    long.
    """
    clock = clock or StartupClock()
    model = _build(settings, resume)
    mfu = _mfu_of_clips_a_second(settings, place, model.to(device), device)
    clock.lap("model")
    engine = Engine(model, settings.engine, settings.optimizer, device)
    clock.lap("engine")
    if resume is not None:
        resume.restore(engine)
        resume.compare(arithmetic_of(settings.engine, device))
    clock.lap("restore")
    start_step = 0 if resume is None else resume.step
    decoding = _choose_decoder(settings, model, device)
    clock.lap("decoder")
    loader = Loader(
        chosen.apply(settings.data, decoding),
        model.plan,
        seed=settings.seed,
        rank=place.rank,
        world_size=place.world_size,
        run_folder=place.folder,
        start_step=start_step,
        device=device,
        digests=None if resume is None else resume.corpus_digests,
    )
    if resume is not None:
        resume.check(corpora_of(settings, loader))
    stability = Stability(
        settings.rewind,
        settings.watch.max_bad_steps,
        None if resume is None else resume.state.get("stability"),
    )
    clock.lap("loader")
    return TrainingState(start_step, engine, loader, decoding, stability, mfu)


def data_state(settings: RunSettings, model: JointModel) -> dict[str, Any]:
    """What must stay as it is for the data integer to mean the same clips, and for the
    optimizer state to fit.
    """
    data = settings.data
    motion = {"motion_version": MOTION_VERSION} if model.plan.flow_measured else {}
    return motion | {
        "seed": settings.seed,
        "order_version": ORDER_VERSION,
        "lanes": data.lanes,
        "clips_per_lane": data.clips_per_lane,
        "shuffle_window": data.shuffle_window,
        "optimizer_kind": settings.optimizer.kind,
    }


def corpora_of(settings: RunSettings, loader: Loader) -> dict[str, Any]:
    """Content and share of each corpus: with another one the data integer would mean other
    clips.

    Where it lies may change.
    """
    sources = settings.data.corpora
    return {
        "corpora": {
            name: {"digest": index.digest, "quota": sources[name].quota}
            for name, index in loader.indexes.items()
        }
    }


def recorded_of(settings: RunSettings, loader: Loader) -> dict[str, Any]:
    """What a start's record says of the corpora."""
    taken_down = {name: clips for name, clips in loader.taken_down.items() if clips}
    return corpora_of(settings, loader) | (
        {"taken_down_clips": taken_down} if taken_down else {}
    )


def _mfu_of_clips_a_second(
    settings: RunSettings, place: RunPlace, model: JointModel, device: torch.device
) -> float | None:
    peak = peak_flops(
        settings.engine, torch.cuda.get_device_name(device) if device.type == "cuda" else None
    )
    if peak is None:
        return None
    path = place.folder / FLOPS_FILE
    counts: dict[str, float] | None = broadcast_from_rank_0(
        lambda: read_json(path) if path.exists() else None
    )
    if counts is None:
        counts = count_flops(
            model, settings.data.image_size, max(len(settings.data.action_units), 1)
        )
        if place.leads:
            write_json(path, counts)
    return counts[JOINT] / peak


def _choose_decoder(settings: RunSettings, model: JointModel, device: torch.device) -> Choice:
    """How clips are decoded, the same on all ranks; one rank of each node tries."""
    own = None
    if os.environ["LOCAL_RANK"] == "0":
        own = chosen.decide(settings.data, model.plan, gpu=device.type == "cuda")
    told: list[Choice | None] = [None] * dist.get_world_size()
    dist.all_gather_object(told, own)
    return chosen.agree_on([choice for choice in told if choice is not None])


def _build(settings: RunSettings, resume: Resume | None) -> JointModel:
    torch.manual_seed(stable_hash(settings.seed, "weights"))
    model = build_model(
        settings.backbone, settings.objectives, settings.mixture, settings.balance_decay
    )
    if resume is not None:
        resume.check(data_state(settings, model))
        resume.load_weights(model)
    return model

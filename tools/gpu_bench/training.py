"""The step by precision, compilation and checkpointing; ZeRO beside plain torch; saving and
reading back; and whether two equal runs, and a run that is cut in two, end with the same bits.
"""

import functools
import hashlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ausl_dist.batch import Batch
from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.run_folder import CHECKPOINTS_FOLDER, CONFIG_FILE
from ausl_dist.train.checkpoint import Saver, take_snapshot
from ausl_dist.train.engine import Engine
from ausl_dist.train.flops import JOINT, count_flops, peak_flops
from ausl_dist.train.place import RunPlace
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.resume import Resume
from ausl_dist.train.settings import CheckpointSettings, EngineSettings, OptimizerSettings
from launch.ports import free_ports
from tools.gpu_bench.sizes import GpuBench, Numbers, Size

OBJECTIVES = {
    "temporal_ranking": {
        "_target_": "ausl_dist.objectives.temporal_ranking.TemporalRanking",
        "n_far": 3,
    },
    "temporal_contrast": {
        "_target_": "ausl_dist.objectives.temporal_contrast.TemporalContrast",
        "frames": 4,
        "stride": 1,
        "keys": "student",  # no teacher, which plain torch has not
    },
}
RATE = 1e-4
MIB = 1 << 20


@functools.cache
def device() -> torch.device:
    """This process as the only rank of a run; its device."""
    place = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": free_ports(1)[0]}
    os.environ |= {name: str(value) for name, value in place.items()} | {
        "MASTER_ADDR": "127.0.0.1"
    }
    return start_ranks(EngineSettings())


def model_of(backbone: str, size: Size, *, checkpointing: bool = False) -> JointModel:
    """Two objectives on a backbone, equal weights each time."""
    torch.manual_seed(0)
    settings = BackboneSettings(
        backbone, size.image_size, activation_checkpointing=checkpointing
    )
    return build_model(settings, OBJECTIVES, dict.fromkeys(OBJECTIVES, 1.0))


def engine_of(
    backbone: str, size: Size, *, checkpointing: bool = False, **settings: object
) -> Engine:
    model = model_of(backbone, size, checkpointing=checkpointing)
    engine = EngineSettings(**settings)  # type: ignore[arg-type]
    return Engine(model, engine, OptimizerSettings(), device())


def step(bench: GpuBench) -> Numbers:
    """Milliseconds, clips a second, MFU and memory of the joint step."""
    size = bench.size
    numbers: Numbers = {}
    variants: dict[str, dict[str, object]] = {
        "fp32": {},
        "bf16": {"precision": "bf16_autocast"},
        "bf16, checkpointing": {"precision": "bf16_autocast", "checkpointing": True},
    }
    if size.compiled:
        variants["bf16, compiled"] = {"precision": "bf16_autocast", "compile": True}
    for backbone in size.backbones:
        for name, options in variants.items():
            _empty_cache()
            engine = engine_of(backbone, size, **options)  # type: ignore[arg-type]
            batch = batch_for(engine.model, size)
            seconds = _seconds(lambda: engine.train_step(batch, RATE), size)  # noqa: B023
            numbers |= _step_numbers(f"{backbone}, {name}", backbone, engine, size, seconds)
            engine.release()
    return numbers


def zero(bench: GpuBench) -> Numbers:
    """A step of each ZeRO stage, beside the same step in plain torch."""
    size, backbone = bench.size, bench.size.backbones[0]
    numbers: Numbers = {"plain torch, ms": 1000 * _plain_seconds(size, backbone)}
    for stage in range(4):
        engine = engine_of(backbone, size, zero_stage=stage)
        batch = batch_for(engine.model, size)
        seconds = _seconds(lambda: engine.train_step(batch, RATE), size)  # noqa: B023
        numbers[f"ZeRO {stage}, ms"] = 1000 * seconds
        engine.release()
        _empty_cache()
    return numbers


def save(bench: GpuBench) -> Numbers:
    """A checkpoint written behind the training, and read back."""
    size, backbone = bench.size, bench.size.backbones[-1]
    engine = engine_of(backbone, size)
    engine.train_step(batch_for(engine.model, size), RATE)
    folder = _run_folder(bench, "save")
    began = time.monotonic()
    snapshot = take_snapshot(1, engine, {})
    copied = time.monotonic()
    saver = _saver(folder)
    saver.save(snapshot)
    saver.finish()
    done = time.monotonic()
    engine.release()
    saved = saver.news()[0]
    resume = Resume(saved.path)
    model = model_of(backbone, size)
    resume.load_weights(model)
    other = Engine(model, EngineSettings(), OptimizerSettings(), device())
    resume.restore(other)
    read = time.monotonic()
    other.release()
    return {
        "checkpoint, MiB": saved.bytes / MIB,
        "copy that training waits for, ms": 1000 * (copied - began),
        "written in the background, s": done - copied,
        "read back into an engine, s": read - done,
    }


def determinism(bench: GpuBench) -> Numbers:
    """Whether equal runs give equal bits with engine.deterministic=true, and a run cut in two."""
    numbers: Numbers = {}
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        for backbone in bench.size.backbones:
            first, again = (_trained(bench, backbone, cut=None) for _ in range(2))
            resumed = _trained(bench, backbone, cut=2)
            numbers[f"{backbone}, two equal runs"] = "equal" if first == again else "DIFFERENT"
            numbers[f"{backbone}, resumed"] = "equal" if first == resumed else "DIFFERENT"
    finally:
        torch.use_deterministic_algorithms(False)
    return numbers


def batch_for(model: JointModel, size: Size, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    batch = Batch.random(
        model.plan, size.batch, image_size=size.image_size, num_units=1, generator=generator
    )
    return batch.to(device())


def _trained(bench: GpuBench, backbone: str, cut: int | None) -> str:
    """Digest of the weights after four steps; with `cut`, the process of the steps after it
    begins from a checkpoint.
    """
    size, steps = bench.size, 4
    engine = engine_of(backbone, size)
    for number in range(steps):
        if number == cut:
            folder = _run_folder(bench, f"determinism-{backbone}")
            saver = _saver(folder)
            saver.save(take_snapshot(number, engine, {}))
            saver.finish()
            engine.release()
            resume = Resume(next((folder / CHECKPOINTS_FOLDER).glob("step-*")))
            model = model_of(backbone, size)
            resume.load_weights(model)
            engine = Engine(model, EngineSettings(), OptimizerSettings(), device())
            resume.restore(engine)
        torch.manual_seed(number)
        engine.train_step(batch_for(engine.model, size, seed=number), RATE)
    digest = hashlib.sha256()
    for parameter in engine.model.parameters():
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    engine.release()
    return digest.hexdigest()


def _step_numbers(
    name: str, backbone: str, engine: Engine, size: Size, seconds: float
) -> Numbers:
    numbers: Numbers = {
        f"{name}, ms": 1000 * seconds,
        f"{name}, clips/s": size.batch / seconds,
    }
    cuda = device().type == "cuda"
    card = torch.cuda.get_device_name() if cuda else None
    peak = peak_flops(EngineSettings(precision=engine.settings.precision), card)
    if peak is not None:
        model = model_of(backbone, size).to(device())
        flops = count_flops(model, size.image_size, 1)[JOINT]
        numbers[f"{name}, MFU"] = flops * size.batch / seconds / peak
    if cuda:
        numbers[f"{name}, memory, MiB"] = torch.cuda.max_memory_allocated() / MIB
    return numbers


def _plain_seconds(size: Size, backbone: str) -> float:
    model = model_of(backbone, size).to(device())
    batch = batch_for(model, size)
    fused = device().type == "cuda" or None
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=fused)

    def plain_step() -> None:
        optimizer.zero_grad()
        model(batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return _seconds(plain_step, size)


def _seconds(work: Callable[[], object], size: Size) -> float:
    """Median seconds, the device's work included, after two that are not counted."""
    times = []
    for _ in range(2 + size.steps):
        began = time.perf_counter()
        work()
        if device().type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def _empty_cache() -> None:
    if device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _run_folder(bench: GpuBench, name: str) -> Path:
    folder = bench.work / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text("name: bench\n")
    return folder


def _saver(folder: Path) -> Saver:
    settings = CheckpointSettings(every_steps=1, keep_last=1)
    return Saver(
        RunPlace(folder, attempt=1, rank=0, world_size=1), settings, timeout_seconds=600
    )

"""The step by precision, checkpointing and compilation; ZeRO beside plain torch; saving and
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
from ausl_dist.train.arithmetic import arithmetic_of, set_switches
from ausl_dist.train.checkpoint import Saver, take_snapshot
from ausl_dist.train.engine import Engine
from ausl_dist.train.flops import JOINT, count_flops, peak_flops
from ausl_dist.train.place import RunPlace
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.resume import Resume
from ausl_dist.train.settings import CheckpointSettings, EngineSettings, OptimizerSettings
from launch.ports import free_ports
from tools.gpu_bench.sizes import GpuBench, Measured, Numbers, Size, tried

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
# What configs/cluster/slurm.yaml turns on, but compilation.
ON_GPUS: dict[str, object] = {
    "precision": "bf16_autocast",
    "channels_last": True,
    "cudnn_benchmark": True,
}
VARIANTS: dict[str, dict[str, object]] = {
    "fp32": {},
    "tf32": {"tf32": True},
    "bf16": {"precision": "bf16_autocast"},
    "bf16, channels last": ON_GPUS,
    "bf16, channels last, checkpointing": {**ON_GPUS, "checkpointing": True},
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
    """An engine with its settings' arithmetic, as a run would have it."""
    model = model_of(backbone, size, checkpointing=checkpointing)
    engine = EngineSettings(**settings)  # type: ignore[arg-type]
    set_switches(arithmetic_of(engine, device()))
    return Engine(model, engine, OptimizerSettings(), device())


def step(bench: GpuBench) -> Measured:
    """Milliseconds, clips a second, MFU and memory of the joint step."""
    for backbone in reversed(bench.size.backbones):
        for name, options in VARIANTS.items():
            name = f"{backbone}, {name}"
            found = tried(functools.partial(_variant, name, backbone, bench.size, options))
            yield {name: found} if isinstance(found, str) else found


def _variant(name: str, backbone: str, size: Size, options: dict[str, object]) -> Numbers:
    _empty_cache()
    engine = engine_of(backbone, size, **options)  # type: ignore[arg-type]
    return _stepped(name, backbone, engine, size)


def compiled(bench: GpuBench) -> Measured:
    """The same by torch.compile, with the seconds of the first step."""
    size = bench.size
    for backbone in reversed(size.compiled):
        engine = engine_of(
            backbone,
            size,
            compile=size.compiler == "inductor",
            **ON_GPUS,  # type: ignore[arg-type]
        )
        if size.compiler != "inductor":
            engine.model.compile(backend=size.compiler)
        batch, began = batch_for(engine.model, size), time.perf_counter()
        engine.train_step(batch, RATE)
        yield {f"{backbone}, first step, s": time.perf_counter() - began}
        yield _stepped(
            f"{backbone}, bf16, channels last, compiled by {size.compiler}",
            backbone,
            engine,
            size,
        )


def zero(bench: GpuBench) -> Measured:
    """A step of each ZeRO stage, beside the same step in plain torch."""
    size, backbone = bench.size, bench.size.backbones[0]
    yield {"plain torch, ms": 1000 * _plain_seconds(size, backbone)}
    for stage in range(4):
        engine = engine_of(backbone, size, zero_stage=stage)
        batch = batch_for(engine.model, size)
        seconds = _seconds(lambda: engine.train_step(batch, RATE), size)  # noqa: B023
        yield {f"ZeRO {stage}, ms": 1000 * seconds}
        engine.release()
        _empty_cache()


def save(bench: GpuBench) -> Measured:
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
    yield {
        "checkpoint, MiB": saved.bytes / MIB,
        "copy that training waits for, ms": 1000 * (copied - began),
        "written in the background, s": done - copied,
        "read back into an engine, s": read - done,
    }


def determinism(bench: GpuBench) -> Measured:
    """Whether equal runs give equal bits with engine.deterministic=true, and a run cut in two."""
    for backbone in bench.size.backbones:
        first, again = (_trained(bench, backbone, cut=None) for _ in range(2))
        yield {f"{backbone}, two equal runs": "equal" if first == again else "DIFFERENT"}
        resumed = _trained(bench, backbone, cut=2)
        yield {f"{backbone}, resumed": "equal" if first == resumed else "DIFFERENT"}
    set_switches(arithmetic_of(EngineSettings(), device()))


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
    arithmetic = ON_GPUS if device().type == "cuda" else {}
    engine = engine_of(backbone, size, deterministic=True, **arithmetic)  # type: ignore[arg-type]
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
            engine = Engine(model, engine.settings, OptimizerSettings(), device())
            resume.restore(engine)
        torch.manual_seed(number)
        engine.train_step(batch_for(engine.model, size, seed=number), RATE)
    digest = hashlib.sha256()
    for parameter in engine.model.parameters():
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    engine.release()
    return digest.hexdigest()


def _stepped(name: str, backbone: str, engine: Engine, size: Size) -> Numbers:
    """What a step of this engine costs; the engine is done with."""
    _empty_cache()
    batch = batch_for(engine.model, size)
    seconds = _seconds(lambda: engine.train_step(batch, RATE), size)
    numbers: Numbers = {
        f"{name}, ms": 1000 * seconds,
        f"{name}, clips/s": size.batch / seconds,
    }
    cuda = device().type == "cuda"
    memory = torch.cuda.max_memory_allocated() if cuda else 0
    card = torch.cuda.get_device_name() if cuda else None
    peak = peak_flops(engine.settings, card)
    if peak is not None:
        model = model_of(backbone, size).to(device())
        flops = count_flops(model, size.image_size, 1)[JOINT]
        numbers[f"{name}, MFU"] = flops * size.batch / seconds / peak
    if cuda:
        numbers[f"{name}, memory, MiB"] = memory / MIB
    engine.release()
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
    """Median seconds, the device's work included, after one or two that are not counted."""
    times, warm = [], min(size.warm, 2)
    for _ in range(warm + size.steps):
        began = time.perf_counter()
        work()
        if device().type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[warm:])


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

"""What the engine costs beside plain torch, what a background save costs a step, and how two
ranks compare with one.

    python -m tools.bench_step                            22 M weights, all ZeRO stages
    python -m tools.bench_step --profile profile.json     keeps the figures for tools.simulate_scale

All variants hold the same model and batch, and all are there at once: one process by itself,
and two that are ranks of one run. They take their steps in turn, so that whatever else the
machine does meets all of them; who is not in turn waits without computing. Beside the wall time
there is the CPU time of rank 0, which other processes disturb less; on a GPU it says nothing.
"""

import argparse
import functools
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ausl_dist import command
from ausl_dist.batch import Batch
from ausl_dist.files import write_json
from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.run_folder import CONFIG_FILE
from ausl_dist.train.checkpoint import Saver, take_snapshot
from ausl_dist.train.engine import Engine
from ausl_dist.train.flops import JOINT, count_flops, peak_flops
from ausl_dist.train.place import RunPlace
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.settings import (
    CheckpointSettings,
    EngineSettings,
    OptimizerSettings,
)

RANKING = {"_target_": "ausl_dist.objectives.temporal_ranking.TemporalRanking", "n_far": 3}
STAGES = (0, 1, 2, 3)
GROUPS = (1, 2)  # ranks
BASES = {1: "plain", 2: "ddp"}
SAVES = 3
ALL_REDUCES = 5
LEARNING_RATE = 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backbone",
        default="vit_small_patch16_224",
        help="a timm name (default vit_small_patch16_224)",
    )
    parser.add_argument(
        "--image-size", type=int, default=64, metavar="PIXELS", help="default 64"
    )
    parser.add_argument("--clips", type=int, default=2, help="a step and rank (default 2)")
    parser.add_argument(
        "--steps", type=int, default=8, help="timed steps of each variant (default 8)"
    )
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16_autocast"))
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile in plain torch and in the engine"
    )
    parser.add_argument(
        "--alone", action="store_true", help="without the two ranks: for a machine with one GPU"
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="write the figures as JSON"
    )
    arguments = parser.parse_args()
    if arguments.alone and arguments.profile:
        raise ValueError("--profile needs the two ranks: leave --alone out")
    one, *others = measure_all(vars(arguments))
    shape = (
        f"{one['weights'] / 1e6:.1f} M weights, {arguments.clips} clips a rank, "
        f"{one['device']}, {arguments.precision}"
    )
    print(f"{arguments.backbone}, {shape}")
    print_table(one, "plain", "one process")
    for two in others:
        print_table(two, "ddp", "two ranks")
        print(
            "weak scaling of zero1, 1 to 2 ranks: "
            f"{one['seconds']['zero1'] / two['seconds']['zero1']:.3f} of ideal",
            end="",
        )
        print(f"; by CPU time {one['cpu_seconds']['zero1'] / two['cpu_seconds']['zero1']:.3f}")
    for each in one["saves"]:
        print(
            f"save of {each['bytes'] / 2**20:.0f} MiB in {each['seconds']:.2f} s: "
            f"copy {each['copy_seconds']:.3f} s, longest step "
            f"{each['longest_seconds']:.3f} s, of as many without a save "
            f"{each['longest_without_seconds']:.3f} s; "
            "added "
            f"{(each['longest_seconds'] - each['longest_without_seconds']) / each['seconds']:.1%} "
            "of the save"
        )
    if one["mfu"] is not None:
        print(f"MFU of zero1 on one device: {one['mfu']:.1%}")
    if arguments.profile is not None:
        write_json(arguments.profile, profile_of(one, others[0], arguments.clips))
    return 0


def print_table(result: dict[str, Any], base: str, title: str) -> None:
    print(
        f"\n| {title} | step, ms | over {base} | CPU ms | over {base} |\n|---|---|---|---|---|"
    )
    for name, seconds in result["seconds"].items():
        cpu, wall = result["cpu_seconds"][name], result["seconds"]
        over = (
            f"{seconds / wall[base]:.3f} | {1000 * cpu:.0f} | "
            f"{cpu / result['cpu_seconds'][base]:.3f}"
        )
        print(f"| {name} | {1000 * seconds:.0f} | {over} |")
    print(flush=True)


def profile_of(one: dict[str, Any], two: dict[str, Any], clips: int) -> dict[str, Any]:
    """What simulate_scale.py reads of a measurement."""
    save = min(one["saves"], key=lambda each: float(each["seconds"]))
    return {
        "weights": one["weights"],
        "clips_a_step": clips,
        "step_seconds": one["seconds"]["plain"],
        "engine_seconds": max(one["seconds"]["zero1"] - one["seconds"]["plain"], 0.0),
        "reduced_bytes": 4 * one["weights"],
        "all_reduce_seconds": two["all_reduce_seconds"],
        "two_rank_step_seconds": two["seconds"]["zero1"],
        "snapshot_seconds": save["copy_seconds"],
        "checkpoint_bytes": save["bytes"],
        "save_seconds": save["seconds"],
    }


def measure_all(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure with one process and with two ranks, each of one thread; returns what rank 0 of
    each found.
    """
    context = multiprocessing.get_context("spawn")
    groups = GROUPS[:1] if arguments["alone"] else GROUPS
    turns = context.Barrier(sum(groups))
    with tempfile.TemporaryDirectory(prefix="bench-step-") as scratch:
        processes = []
        for ranks in groups:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            places = [
                (rank, ranks, port, Path(scratch), arguments, turns) for rank in range(ranks)
            ]
            processes += [
                context.Process(target=measure, args=place, daemon=True) for place in places
            ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise OSError(
                    f"a rank ended with {process.exitcode}; what it said stands above"
                )
        return [json.loads((Path(scratch) / f"{ranks}.json").read_text()) for ranks in groups]


def measure(
    rank: int, ranks: int, port: int, scratch: Path, arguments: dict[str, Any], turns: Barrier
) -> None:
    """Everything that one process does; rank 0 of each group writes its result."""
    place = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": ranks,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ |= {name: str(value) for name, value in place.items()}
    torch.set_num_threads(1)
    try:
        bench = StepBench(
            arguments, start_ranks(EngineSettings(precision=arguments["precision"]))
        )
        variants: dict[str, Callable[[], object]] = {BASES[ranks]: bench.plain_torch(ranks)}
        engines = {f"zero{stage}": bench.engine(stage) for stage in STAGES}
        variants |= {
            name: functools.partial(engine.train_step, bench.batch, LEARNING_RATE)
            for name, engine in engines.items()
        }
        seconds, cpu_seconds = in_turns(variants, arguments["steps"], ranks, turns)
        result = {
            "weights": bench.num_weights,
            "device": torch.cuda.get_device_name()
            if bench.device.type == "cuda"
            else "CPU, one thread a rank",
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "mfu": bench.mfu(seconds["zero1"]) if ranks == 1 else None,
            "all_reduce_seconds": all_reduce_seconds(bench.num_weights, bench.device)
            if ranks == 2
            else None,
        }
        turns.wait()
        result["saves"] = (
            [save_during(engines["zero1"], bench.batch, scratch, n) for n in range(SAVES)]
            if ranks == 1
            else []
        )
        if rank == 0:
            write_json(scratch / f"{ranks}.json", result)
        turns.wait()
        dist.destroy_process_group()
    except BaseException:
        turns.abort()  # or the others would wait
        raise


@dataclass
class StepBench:
    """One model and one batch, made anew for each variant from the same seed."""

    arguments: dict[str, Any]
    device: torch.device

    def __post_init__(self) -> None:
        model = self.model()
        self.num_weights = sum(parameter.numel() for parameter in model.parameters())
        noise = Batch.random(
            model.plan,
            self.arguments["clips"],
            image_size=self.arguments["image_size"],
            num_units=1,
        )
        self.batch = noise.to(self.device)
        self.precision = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.arguments["precision"] != "fp32"
        )

    def model(self) -> JointModel:
        torch.manual_seed(0)
        backbone = BackboneSettings(self.arguments["backbone"], self.arguments["image_size"])
        return build_model(backbone, {"temporal_ranking": RANKING}, {"temporal_ranking": 1.0})

    def engine(self, stage: int) -> Engine:
        settings = EngineSettings(
            zero_stage=stage,  # type: ignore[arg-type]
            precision=self.arguments["precision"],
            compile=self.arguments["compile"],
        )
        return Engine(self.model(), settings, OptimizerSettings(), self.device)

    def plain_torch(self, ranks: int) -> Callable[[], object]:
        """A step as one would write it without an engine."""
        model: nn.Module = self.model().to(self.device)
        if ranks > 1:
            model = nn.parallel.DistributedDataParallel(model)
        if self.arguments["compile"]:
            model.compile()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, fused=self.device.type == "cuda" or None
        )

        def step() -> None:
            optimizer.zero_grad()
            with self.precision:
                loss = model(self.batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return step

    def mfu(self, step_seconds: float) -> float | None:
        """Of a step of all clips on this device; None where its peak is unknown."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        peak = peak_flops(EngineSettings(precision=self.arguments["precision"]), name)
        if peak is None:
            return None
        flops = count_flops(self.model().to(self.device), self.arguments["image_size"], 1)[
            JOINT
        ]
        return flops * self.arguments["clips"] / step_seconds / peak


def in_turns(
    variants: dict[str, Callable[[], object]], steps: int, own_ranks: int, turns: Barrier
) -> tuple[dict[str, float], dict[str, float]]:
    """Median wall and CPU seconds of a step of each variant; a first round of two steps each is
    not counted.
    """
    wall: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(-2, steps):
        for place in range(1 + len(STAGES)):
            for ranks in GROUPS:
                turns.wait()
                if ranks == own_ranks:
                    name = [*variants][place]
                    seconds, cpu_seconds = timed(variants[name])
                    if number >= 0:
                        wall[name].append(seconds)
                        cpu[name].append(cpu_seconds)
    turns.wait()
    return {name: statistics.median(times) for name, times in wall.items()}, {
        name: statistics.median(times) for name, times in cpu.items()
    }


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a step, the device's work included."""
    started, cpu_started = time.perf_counter(), time.process_time()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - cpu_started


def all_reduce_seconds(elements: int, device: torch.device) -> float:
    """Median seconds of an all-reduce of as many fp32 numbers as there are weights."""
    gradient = torch.ones(elements, device=device)
    return statistics.median(
        timed(lambda: dist.all_reduce(gradient))[0] for _ in range(ALL_REDUCES)
    )


def save_during(engine: Engine, batch: Batch, scratch: Path, number: int) -> dict[str, float]:
    """Train through one background save, and as many steps without one."""
    (scratch / CONFIG_FILE).write_text("name: bench\n")
    settings = CheckpointSettings(every_steps=1, keep_last=1)
    saver = Saver(RunPlace(scratch, attempt=1, rank=0, world_size=1), settings, 600)
    copies: list[float] = []

    def saving_step() -> None:
        engine.train_step(batch, LEARNING_RATE)
        copies.append(timed(lambda: saver.save(take_snapshot(number, engine, {})))[0])

    plain_step: Callable[[], object] = lambda: engine.train_step(batch, LEARNING_RATE)  # noqa: E731
    during, news = [timed(saving_step)[0]], saver.news()
    while not news:
        during.append(timed(plain_step)[0])
        saver.check()
        news = saver.news()
    without = [timed(plain_step)[0] for _ in during]
    sizes = {
        "seconds": news[0].seconds,
        "bytes": float(news[0].bytes),
        "copy_seconds": copies[0],
    }
    return {**sizes, "longest_seconds": max(during), "longest_without_seconds": max(without)}


if __name__ == "__main__":
    command.run(main)

"""What each objective learns, alone and together, on a rendered world; and what a joint step
costs beside the single ones.

    python -m tools.bench_objectives learn --work DIR [--steps 600 --seeds 3 --cases
    random,joint] python -m tools.bench_objectives cost --work DIR

Both take settings of a run behind their options, such as optimizer.learning_rate=1e-3.

`learn` renders two worlds of different people, pretrains on the first, and probes frozen
features on the second, by subjects: intensity (ICC), occurrence (F1 at the threshold chosen on
training subjects) and identity. Backbones are kept in DIR, so that the same command goes on
where it was. Settings are those of a run, on top of experiment=joint_small; objectives that are
no part of it take theirs from RECIPES, and all cases see the same clips in the same view.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

# launch/ is imported from the checkout
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ausl_dist import command
from ausl_dist.batch import Batch, View
from ausl_dist.evaluate.compare import CompareSettings, compare
from ausl_dist.evaluate.features.pixels import PIXELS, Pixels
from ausl_dist.evaluate.features.table import TRUE_LANDMARKS, FeatureTable, extract
from ausl_dist.evaluate.folds.splits import folds
from ausl_dist.evaluate.scores.identity_leak import identity_leak
from ausl_dist.files import read_json, write_json
from ausl_dist.model.backbones import Backbone, build_backbone
from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.randomness import stable_hash
from ausl_dist.settings import from_mapping
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.scan import scan
from ausl_dist.train.engine import Engine
from ausl_dist.train.memory import kept_for_backward
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.schedule import learning_rate
from ausl_dist.train.settings import RunSettings
from ausl_dist.train.teacher import Teacher
from ausl_dist.world.expressions import ACTION_UNITS
from ausl_dist.world.make import WorldSettings, make_world
from launch.compose import compose
from launch.ports import free_ports

RANDOM, JOINT, LABELS = "random", "joint", "action_units"
CROP = (0.58, 0.64)  # of the frame's side, as in experiment=joint_small
MILD = {
    "crop": list(CROP),
    "centre": 0.66,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
}
MILD |= {"flip": 0.0, "grey": 0.0, "blur": 0.0}
# What each objective wants in small runs where it is no part of the joint one: frames further
# apart, since a small picture moves little from frame to frame, and a teacher as fast as the
# run is short.
RECIPES: dict[str, list[str]] = {
    "landmark_deviation": [],
    "temporal_contrast": ["stride=6", "teacher_momentum=0.99"],
    "temporal_ranking": ["n_far=7", "spacing=6", "batch_norm=merged", "crop=per_clip"],
    "cross_identity_reconstruction": ["stride=6", "teacher_momentum=0.99", "bank_size=4096"],
    "predictive_coding": ["stride=6", "reads=pooled"],
    "predictive_coding_in_clip": [],
    "roi_inpainting_deviation": [],
    "single_image_flow_stored": [],
    "masked_video_deviation": [],
    LABELS: [
        "task=intensity",
        f"units={list(ACTION_UNITS)}".replace(" ", ""),
        "frames=8",
        "stride=6",
    ],
}
SINGLE = [name for name in RECIPES if name != LABELS]
FLOW_GAP = 18  # of the motion that the world stores: single_image_flow's
FOLDS = 4  # of the people who are probed: each is tested once
REPORT_SECONDS = 10.0
COST_ROUNDS = 5


def main(words: Sequence[str] | None = None) -> int:
    """The command; `words` are those that were typed, if nothing else is said."""
    arguments = _parser().parse_intermixed_args(words)
    arguments.work.mkdir(parents=True, exist_ok=True)
    settings = _settings(arguments)
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
    }
    device = start_ranks(settings.engine)
    make_world(
        _world(arguments, "train"),
        str(arguments.work / "train"),
        work=arguments.work / "rendering",
        workers=arguments.workers,
    )
    if arguments.what == "cost":
        return _cost(settings, arguments, device)
    make_world(
        _world(arguments, "heldout"),
        str(arguments.work / "heldout"),
        work=arguments.work / "rendering",
        workers=arguments.workers,
    )
    cases = arguments.cases.split(",") if arguments.cases else [RANDOM, *SINGLE, JOINT, LABELS]
    for seed in range(arguments.seeds):
        for case in cases:
            _pretrain(case, replace(settings, seed=seed), arguments.work, device)
    _table(settings, cases, arguments, device)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("learn", "cost"))
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        metavar="DIR",
        help="where worlds and backbones are kept",
    )
    parser.add_argument("--steps", type=int, default=600, help="of each run (default 600)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each case (default 3)")
    parser.add_argument(
        "--cases",
        metavar="NAME,NAME",
        help=f"{RANDOM}, {JOINT} and names of objectives (default: all)",
    )
    parser.add_argument(
        "--identities", type=int, default=80, help="people to train on (default 80)"
    )
    parser.add_argument(
        "--heldout", type=int, default=40, help="other people, to probe (default 40)"
    )
    parser.add_argument("--clips", type=int, default=4, help="of each (default 4)")
    parser.add_argument(
        "--size",
        type=int,
        default=48,
        metavar="PIXELS",
        help="of the images that the backbone sees (default 48)",
    )
    parser.add_argument(
        "--backbone",
        help="a file of configs/backbone (default: that of experiment=joint_small)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that render (default 1)"
    )
    parser.add_argument(
        "settings",
        nargs="*",
        help="settings of the runs, such as data.clips_per_lane=8 optimizer.learning_rate=3e-4",
    )
    return parser


def _world(arguments: argparse.Namespace, part: str) -> WorldSettings:
    people, seed = (arguments.identities, 1) if part == "train" else (arguments.heldout, 2)
    return WorldSettings(
        identities=people,
        clips=arguments.clips,
        size=max(2 * arguments.size, 64),
        seed=seed,
        flow_gap=FLOW_GAP,
    )


def _settings(arguments: argparse.Namespace) -> RunSettings:
    """The joint run, small, on the world that was rendered."""
    words = [
        "experiment=joint_small",
        "engine=zero0",
        "cluster.ranks=1",
        *([f"backbone={arguments.backbone}"] if arguments.backbone else []),
        f"data.corpora.main.url={arguments.work / 'train'}",
        f"steps={arguments.steps}",
        f"data.image_size={arguments.size}",
        f"optimizer.warmup_steps={arguments.steps // 20}",
    ]
    return from_mapping(RunSettings, compose([*words, *arguments.settings]).run)


def _model(case: str, settings: RunSettings) -> JointModel:
    torch.manual_seed(stable_hash(settings.seed, "weights"))
    if case == JOINT:
        return build_model(
            settings.backbone, settings.objectives, settings.mixture, settings.balance_decay
        )
    own = settings.objectives.get(case) or _single(case)
    return build_model(settings.backbone, {case: own}, {case: 1.0})


def _single(case: str) -> Mapping[str, Any]:
    """The settings of an objective that is no part of the joint run."""
    words = ["mixture=none", f"+mixture.{case}=1.0", "name=single", "steps=1"]
    words += ["data.corpora.main.url=none"]
    own: Mapping[str, Any] = compose(words).run["objectives"][case]
    for key in ("view", "key_view"):
        if key in own:
            words += [
                f"++objectives.{case}.{key}.{name}={value}".replace(" ", "")
                for name, value in MILD.items()
            ]
    words += [f"++objectives.{case}.{word}" for word in RECIPES[case]]
    found: Mapping[str, Any] = compose(words).run["objectives"][case]
    return found


def _pretrain(case: str, settings: RunSettings, work: Path, device: torch.device) -> None:
    """Train one case and keep its backbone, unless it is there."""
    path = _weights(work, case, settings.seed)
    if path.exists() or case == RANDOM:
        return
    model = _model(case, settings)
    engine = Engine(model, settings.engine, settings.optimizer, device)
    reported, started = time.monotonic(), time.process_time()
    with Loader(
        settings.data, model.plan, seed=settings.seed, rank=0, world_size=1, run_folder=work
    ) as loader:
        for step in range(settings.steps):
            torch.manual_seed(stable_hash(settings.seed, "step", step))
            outcome = engine.train_step(
                next(loader), learning_rate(step, settings.steps, settings.optimizer)
            )
            if time.monotonic() - reported > REPORT_SECONDS or step in (0, settings.steps - 1):
                reported = time.monotonic()
                losses = ", ".join(
                    f"{name[:-5]} {value:.3f}"
                    for name, value in outcome.logs.items()
                    if name.endswith("/loss")
                )
                print(
                    f"{case} seed {settings.seed} step {step + 1}/{settings.steps}: {losses}",
                    flush=True,
                )
    path.parent.mkdir(exist_ok=True)
    weights = model.backbone.weights()
    save_file({n: tensor.detach().cpu().contiguous() for n, tensor in weights.items()}, path)
    minutes = (time.process_time() - started) / 60
    write_json(path.with_suffix(".json"), {"steps": settings.steps, "cpu_minutes": minutes})


def _weights(work: Path, case: str, seed: int) -> Path:
    return work / "backbones" / f"{case}-{seed}.safetensors"


def _backbone(case: str, settings: RunSettings, work: Path, device: torch.device) -> Backbone:
    torch.manual_seed(stable_hash(settings.seed, "weights"))
    backbone = build_backbone(settings.backbone)
    if case != RANDOM:
        backbone.load_weights(load_file(_weights(work, case, settings.seed)))
    return backbone.eval().to(device)


def _table(
    settings: RunSettings, cases: list[str], arguments: argparse.Namespace, device: torch.device
) -> None:
    """Mean and spread over seeds of every score, as a Markdown table."""
    runs = [(case, seed) for case in cases for seed in range(arguments.seeds)]
    backbones: dict[str, nn.Module] = {PIXELS: Pixels().to(device)}
    backbones |= {
        f"{case}-{seed}": _backbone(case, replace(settings, seed=seed), arguments.work, device)
        for case, seed in runs
    }
    clips = scan(
        str(arguments.work / "heldout"),
        image_size=settings.data.image_size,
        stride=3,
        view=View(crop=CROP),
    )
    tables = extract(backbones, clips, true_landmarks=True)
    scores = {name: _scores(table) for name, table in tables.items()}
    print(
        "\n| features | AU intensity, ICC(3,1) | AU occurrence, F1 chosen | identity, "
        "accuracy | CPU-minutes |\n|---|---|---|---|---|"
    )
    for case in cases:
        own = np.array([scores[f"{case}-{seed}"] for seed in range(arguments.seeds)])
        cells = [
            f"{mean:.3f} ± {spread:.3f}"
            for mean, spread in zip(own.mean(0), own.std(0), strict=True)
        ]
        print(f"| {case} | {' | '.join(cells)} | {_cpu_minutes(case, arguments)} |")
    for name in (PIXELS, TRUE_LANDMARKS):
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in scores[name])} | |")
    print(
        f"\nIdentity by chance: {identity_leak(tables[TRUE_LANDMARKS]).chance:.3f}; "
        f"{arguments.seeds} seeds, {settings.steps} steps, readout of the map: "
        f"{settings.backbone.readout.kind}."
    )


def _cpu_minutes(case: str, arguments: argparse.Namespace) -> str:
    """Of one run, all threads of this process counted; nothing for random weights."""
    if case == RANDOM:
        return "0"
    paths = [_weights(arguments.work, case, seed) for seed in range(arguments.seeds)]
    return f"{np.mean([read_json(path.with_suffix('.json'))['cpu_minutes'] for path in paths]):.0f}"


def _scores(table: FeatureTable) -> tuple[float, float, float]:
    split = folds("rendered", table.present_subjects(), count=FOLDS)
    intensity = compare(
        {"features": table}, CompareSettings(task="intensity", resamples=0), folds=split
    ).rows[0]
    occurrence = compare(
        {"features": table}, CompareSettings(task="occurrence", resamples=0), folds=split
    ).rows[0]
    return (
        intensity.scores["icc"].mean,
        occurrence.scores["f1_chosen"].mean,
        identity_leak(table).accuracy,
    )


def _cost(settings: RunSettings, arguments: argparse.Namespace, device: torch.device) -> int:
    """Seconds of a step (forward and backward) and memory held for the backward pass, all cases
    on the same clips, in turns.
    """
    models = {
        case: _ready(_model(case, settings), device) for case in [*settings.objectives, JOINT]
    }
    batches = {
        case: _first_batch(settings, model, arguments.work).to(device)
        for case, model in models.items()
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
    model = _ready(_model(JOINT, checkpointed), device)
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
    return 0


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


if __name__ == "__main__":
    command.run(main)

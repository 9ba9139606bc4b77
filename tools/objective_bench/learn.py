"""Pretraining one case after another, each kept, and what the features are worth on other people."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ausl_dist.evaluate.compare import CompareSettings, compare
from ausl_dist.evaluate.features.pixels import PIXELS, Pixels
from ausl_dist.evaluate.features.table import TRUE_LANDMARKS, FeatureTable, extract
from ausl_dist.evaluate.folds.splits import Fold, folds
from ausl_dist.evaluate.scores.identity_leak import identity_leak
from ausl_dist.evaluate.scores.rows import Predictions, difference
from ausl_dist.files import read_json, write_json
from ausl_dist.model.backbones import Backbone, build_backbone
from ausl_dist.randomness import stable_hash
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.scan import ScannedClip
from ausl_dist.train.engine import Engine
from ausl_dist.train.schedule import learning_rate
from ausl_dist.train.settings import RunSettings
from tools.objective_bench.cases import RANDOM, model_of

FOLDS = 4  # of the people who are probed: each is tested once
REPORT_SECONDS = 10.0


def pretrain(case: str, settings: RunSettings, work: Path, device: torch.device) -> None:
    """Train one case and keep its backbone, unless it is there."""
    path = weights_file(work, case, settings.seed)
    if path.exists() or case == RANDOM:
        return
    model = model_of(case, settings)
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


def weights_file(work: Path, case: str, seed: int) -> Path:
    return work / "backbones" / f"{case}-{seed}.safetensors"


def backbone_of(case: str, settings: RunSettings, work: Path, device: torch.device) -> Backbone:
    torch.manual_seed(stable_hash(settings.seed, "weights"))
    backbone = build_backbone(settings.backbone)
    if case != RANDOM:
        backbone.load_weights(load_file(weights_file(work, case, settings.seed)))
    return backbone.eval().to(device)


def table(
    settings: RunSettings,
    rows: Mapping[str, tuple[str, Path]],
    seeds: int,
    clips: Iterable[ScannedClip],
    device: torch.device,
) -> dict[str, FeatureTable]:
    """Print mean and spread over seeds of every score, a row for each title: its case, and the
    folder that keeps its backbones. Pixels and the landmarks that the corpus stores stand below.
    How far the first seed is above the pixels has an interval, over the people that are judged.
    Returns the features, by title and seed, and those of the two last rows.
    """
    backbones: dict[str, nn.Module] = {PIXELS: Pixels().to(device)}
    for title, (case, work) in rows.items():
        for seed in range(seeds):
            own = replace(settings, seed=seed)
            backbones[f"{title}-{seed}"] = backbone_of(case, own, work, device)
    tables = extract(backbones, clips, true_landmarks=True)
    judged = {name: judge(own) for name, own in tables.items()}
    found = {name: own.scores for name, own in judged.items()}
    pixels = judged[PIXELS].predictions
    print(
        "\n| features | AU intensity, ICC(3,1) | above the pixels, of all folds together "
        "| AU occurrence, F1 chosen | identity, accuracy | CPU-minutes |\n|---|---|---|---|---|---|"
    )
    for title, (case, work) in rows.items():
        own_scores = np.array([found[f"{title}-{seed}"] for seed in range(seeds)])
        intensity, *others = [
            f"{mean:.3f} ± {spread:.3f}"
            for mean, spread in zip(own_scores.mean(0), own_scores.std(0), strict=True)
        ]
        above = _gain(judged[f"{title}-0"].predictions, pixels)
        minutes = _cpu_minutes(case, work, seeds)
        print(f"| {title} | {intensity} | {above} | {' | '.join(others)} | {minutes} |")
    for name in (PIXELS, TRUE_LANDMARKS):
        intensity, *others = [f"{value:.3f}" for value in found[name]]
        above = "" if name == PIXELS else _gain(judged[name].predictions, pixels)
        print(f"| {name} | {intensity} | {above} | {' | '.join(others)} | |")
    print(
        f"\nIdentity by chance: {identity_leak(tables[TRUE_LANDMARKS]).chance:.3f}; "
        f"{seeds} seeds, {settings.steps} steps, readout of the map: "
        f"{settings.backbone.readout.kind}."
    )
    return tables


def _cpu_minutes(case: str, work: Path, seeds: int) -> str:
    """Of one run, all threads of this process counted; nothing for random weights."""
    if case == RANDOM:
        return "0"
    paths = [weights_file(work, case, seed) for seed in range(seeds)]
    return f"{np.mean([read_json(path.with_suffix('.json'))['cpu_minutes'] for path in paths]):.1f}"


def _gain(predictions: Predictions, pixels: Predictions) -> str:
    gain = difference(predictions, pixels)
    interval = "" if gain.interval is None else " [{:.3f}, {:.3f}]".format(*gain.interval)
    return f"{gain.mean:.3f}{interval}"


def folds_of(table: FeatureTable) -> list[Fold]:
    return folds("rendered", table.present_subjects(), count=FOLDS)


@dataclass(frozen=True)
class Judged:
    """What linear probes make of features, over people."""

    scores: tuple[float, float, float]  # intensity (ICC), occurrence (F1), identity (accuracy)
    predictions: Predictions  # of intensities


def judge(table: FeatureTable) -> Judged:
    """Probe features for intensity, occurrence and identity, in folds of people."""
    split = folds_of(table)
    intensity = compare(
        {"features": table}, CompareSettings(task="intensity", resamples=0), folds=split
    ).rows[0]
    occurrence = compare(
        {"features": table}, CompareSettings(task="occurrence", resamples=0), folds=split
    ).rows[0]
    found = (
        intensity.scores["icc"].mean,
        occurrence.scores["f1_chosen"].mean,
        identity_leak(table).accuracy,
    )
    return Judged(found, intensity.predictions)

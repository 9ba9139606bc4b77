"""A published data set and a released backbone under one protocol: the steps behind `tools/evaluate.py bundle=… data=… root=…`.

    data set on disk ──reader, cropping as in pretraining──▶ cached corpus ──▶ frozen features of backbone and random weights
        ──▶ published subject-exclusive folds ──▶ probe per fold ──▶ sealed test folds ──▶ comparison, report
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ausl_dist.evaluate.compare import CompareSettings, Comparison, Fit, compare
from ausl_dist.evaluate.datasets import DataSet, find_data_set
from ausl_dist.evaluate.datasets.cache import cached_corpus
from ausl_dist.evaluate.features import FeatureTable
from ausl_dist.evaluate.networks import NetworkSettings, fit_network, keep_labels
from ausl_dist.evaluate.predictor import Predictor, Task
from ausl_dist.evaluate.probe import ProbeSettings, fit_linear
from ausl_dist.evaluate.progress import shown
from ausl_dist.evaluate.released import PRETRAINED, RANDOM, describe_backbone, extract_corpus, open_corpus, random_double
from ausl_dist.evaluate.splits import folds
from ausl_dist.release.load import load_backbone


@dataclass(frozen=True)
class ProtocolSettings:
    """One evaluation of one backbone on one data set."""

    bundle: str
    data: str  # a name of evaluate.datasets
    root: str  # the data set as it was distributed
    out: str = "evaluation"
    cache: str = "~/.cache/ausl_dist/evaluate"  # cropped data sets are kept here
    protocol: Literal["linear", "mlp", "temporal"] = "linear"
    task: Literal["auto", "intensity", "occurrence"] = "auto"  # auto: as the data set is labelled
    label_share: float = 1.0  # of the training frames keep their labels, drawn at random; 0.02 is the 2 % of the literature
    stride: int = 1
    models: str | None = None  # folder of the face detection models
    resamples: int = 1000
    seed: int = 0
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def __post_init__(self) -> None:
        if not 0 < self.label_share <= 1:
            raise ValueError(f"label_share must lie in (0, 1], not {self.label_share}")
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, not {self.stride}")


def run_protocol(settings: ProtocolSettings) -> tuple[Comparison, dict[str, Any]]:
    """Run it; returns the comparison and what it was made of, for the report."""
    data_set = find_data_set(settings.data)
    task = _task(settings, data_set)
    released = load_backbone(settings.bundle)
    recordings = data_set.read(Path(settings.root))
    cropping = shown(recordings, "cropping, recordings", len(recordings))
    cache = Path(settings.cache).expanduser()
    corpus = open_corpus(cached_corpus(settings.data, recordings, cache, models=settings.models, shown=cropping))
    backbones = {PRETRAINED: released.backbone, RANDOM: random_double(released, settings.seed)}
    tables = extract_corpus(released, backbones, corpus, stride=settings.stride)
    units = data_set.occurrence_units if task == "occurrence" and data_set.occurrence_units else data_set.action_units
    comparing = CompareSettings(
        task=task, positive_from=data_set.positive_from, action_units=units, resamples=settings.resamples, seed=settings.seed
    )
    parts = folds(settings.data, tables[PRETRAINED].present_subjects(), seed=settings.seed)
    comparison = compare(tables, comparing, folds=parts, fit=fit_of(settings))
    context = {
        "kind": "protocol",
        "backbone": describe_backbone(released, Path(settings.bundle)),
        "corpus": {"url": corpus.url, "digest": corpus.digest, "name": settings.data},
        "settings": dataclasses.asdict(settings),
    }
    return comparison, context


def fit_of(settings: ProtocolSettings) -> Fit:
    """The function that fits a predictor of this protocol on a training table."""

    def fit(table: FeatureTable, task: Task) -> Predictor:
        if settings.label_share < 1:
            table = keep_labels(table, settings.label_share, settings.seed)
        if settings.protocol == "linear":
            return fit_linear(table.take(np.flatnonzero((table.labels >= 0).any(1))), task, settings.probe)
        return fit_network(table, task, dataclasses.replace(settings.network, kind=settings.protocol, seed=settings.seed))

    return fit


def _task(settings: ProtocolSettings, data_set: DataSet) -> Task:
    if settings.task == "intensity" and data_set.kind == "occurrence":
        raise ValueError(f"{data_set.name} is labelled with occurrence, not intensity: leave task out, or set task=occurrence")
    return data_set.kind if settings.task == "auto" else settings.task

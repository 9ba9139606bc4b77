"""The open referee: backbones of anybody beside each other, under one protocol that is blind to
the test.

    NAME=BUNDLE, NAME=FILE, NAME=timm:NETWORK ──▶ entrants
    corpus of shards, or a data set on disk ──the same crops──▶ features of each, and of random weights
        ──▶ landmarks, grey pixels, a constant and a guess beside them
        ──▶ one readout, one probe, the same folds ──▶ sealed test folds ──▶ Comparison

All rows are of the same frames. Each network sees the same part of the same crop, in the size and
with the statistics that it was trained on; networks of video see the frames around the judged one.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ausl_dist.batch import View
from ausl_dist.evaluate.adapters import ForeignSettings, open_foreign
from ausl_dist.evaluate.adapters.base import Renormalised
from ausl_dist.evaluate.compare import CompareSettings, Comparison, compare
from ausl_dist.evaluate.datasets import find_data_set
from ausl_dist.evaluate.datasets.cache import cached_corpus
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.evaluate.features.pixels import PIXELS, Pixels
from ausl_dist.evaluate.features.table import TRUE_LANDMARKS, FeatureTable
from ausl_dist.evaluate.folds.splits import Fold, folds
from ausl_dist.evaluate.predictors.base import Predictor, Task
from ausl_dist.evaluate.predictors.networks import NetworkSettings, fit_network, keep_labels
from ausl_dist.evaluate.predictors.probe import ProbeSettings, fit_linear
from ausl_dist.evaluate.protocol import task_of
from ausl_dist.evaluate.released import (
    LabelledCorpus,
    aligned_clips,
    extract_corpus,
    open_bundle,
    open_corpus,
)
from ausl_dist.files import read_json
from ausl_dist.model.readout import ReadoutSettings
from ausl_dist.progress import shown
from ausl_dist.release.network import CONFIG_NAME
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD, RENDERED
from ausl_dist.stream.scan import scan

TIMM = "timm:"
RANDOM = "{}, random weights"
LANDMARKS = "landmarks, as found"
FOLDS = 4  # of the people of a corpus that has no published ones
Opened = Mapping[str, Entrant]


@dataclass(frozen=True)
class RefereeSettings:
    """What is the same for all rows."""

    data: str = ""  # a name of evaluate.datasets, with its root; or
    root: str = ""
    corpus: str = ""  # a labelled corpus of shards
    # own: what each network gives itself; else what is read of the map of each
    readout: Literal["own", "grid", "regions"] = "own"
    protocol: Literal["linear", "mlp"] = "linear"
    task: Literal["auto", "intensity", "occurrence"] = "auto"
    split: str = "usual"  # a published split, where there are several
    label_share: float = 1.0  # of the training frames keep their labels
    random_weights: bool = True  # a row of each network with random weights
    stride: int = 1
    resamples: int = 1000
    seed: int = 0
    cache: str = "~/.cache/ausl_dist/evaluate"  # cropped data sets are kept here
    models: str | None = None  # folder of the face detection models
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def __post_init__(self) -> None:
        if bool(self.corpus) == bool(self.data) or bool(self.data) != bool(self.root):
            raise ValueError("give --corpus URL, or --data NAME with --root DIR")
        if not 0 < self.label_share <= 1 or self.stride < 1:
            raise ValueError(
                f"label_share must lie in (0, 1] and stride be at least 1, not {self.label_share} "
                f"and {self.stride}"
            )


def open_named(what: str, readout: Literal["own", "grid", "regions"] = "own") -> Entrant:
    """A backbone by what it is: a bundle of ours, `timm:NETWORK`, or a published file or
    folder.

    Raises ValueError, or BundleError, where it is none of these.
    """
    read = ReadoutSettings() if readout == "own" else ReadoutSettings(readout)
    if what.startswith(TIMM):
        name = what.removeprefix(TIMM)
        return open_foreign(ForeignSettings("timm", name=name, readout=read))
    if not _is_bundle(Path(what)):
        return open_foreign(ForeignSettings("auto", weights=what, readout=read))
    entrant = open_bundle(what)
    if readout == "own":
        return entrant

    def reread(backbone: nn.Module) -> nn.Module:
        return Renormalised(backbone, PIXEL_MEAN, PIXEL_STD, read).eval().requires_grad_(False)

    return dataclasses.replace(
        entrant,
        backbone=reread(entrant.backbone),
        fresh=lambda: reread(entrant.fresh()),
        description={**entrant.description, "readout": readout},
    )


def referee(
    named: Mapping[str, str], settings: RefereeSettings
) -> tuple[Comparison, dict[str, Any]]:
    """Judge backbones by name; returns the comparison and what it was made of, for the report.

    Gains are those of the first one. Raises ValueError for what cannot be opened, before
    anything is looked at.
    """
    opened = {name: open_named(what, settings.readout) for name, what in named.items()}
    corpus, comparing, name = _data(settings)
    tables = _tables(opened, corpus, settings)
    present = next(iter(tables.values())).present_subjects()
    comparison = compare(
        tables,
        comparing,
        folds=_folds(settings, present),
        fit=lambda table, task: _fit(table, task, settings),
    )
    context = {
        "kind": "referee",
        "backbone": {"name": ", ".join(named), "note": NOTE},
        "entrants": {name: entrant.description for name, entrant in opened.items()},
        "corpus": {"url": corpus.url, "digest": corpus.digest, "name": name},
        "settings": dataclasses.asdict(settings),
    }
    return comparison, context


MAX_CONFIG_BYTES = 1 << 20
NOTE = (
    "all rows see the same part of the same crops, which are this project's: a network that was "
    "trained on crops of its own may be worth more on these"
)


def _is_bundle(folder: Path) -> bool:
    config = folder / CONFIG_NAME
    return config.is_file() and "ausl_dist" in read_json(config, MAX_CONFIG_BYTES)


def _data(settings: RefereeSettings) -> tuple[LabelledCorpus, CompareSettings, str]:
    """The labelled crops, what is compared on them, and their name."""
    common: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    if settings.corpus:
        corpus = open_corpus(settings.corpus)
        task: Task = "intensity" if settings.task == "auto" else settings.task
        return corpus, CompareSettings(task=task, **common), str(corpus.statement.get("name"))
    data_set = find_data_set(settings.data)
    task = task_of(data_set, settings.task)
    recordings = data_set.read(Path(settings.root))
    cache = Path(settings.cache).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    url = cached_corpus(
        settings.data,
        recordings,
        cache,
        models=settings.models,
        shown=shown(recordings, "cropping, recordings", len(recordings)),
    )
    units = data_set.action_units
    if task == "occurrence" and data_set.occurrence_units:
        units = data_set.occurrence_units
    comparing = CompareSettings(
        task=task, positive_from=data_set.positive_from, action_units=units, **common
    )
    return open_corpus(url), comparing, settings.data


def _folds(settings: RefereeSettings, present: tuple[str, ...]) -> list[Fold]:
    if settings.data:
        return folds(settings.data, present, split=settings.split, seed=settings.seed)
    return folds("rendered", present, count=min(FOLDS, len(present)), seed=settings.seed)


def _tables(
    opened: Opened, corpus: LabelledCorpus, settings: RefereeSettings
) -> dict[str, FeatureTable]:
    """Features of all rows: one pass over the corpus for those that see the same pictures."""
    groups: dict[tuple[int, View, str | None], dict[str, Entrant]] = {}
    for name, entrant in opened.items():
        seen = (entrant.image_size, entrant.view, entrant.alignment)
        groups.setdefault(seen, {})[name] = entrant
    tables: dict[str, FeatureTable] = {}
    for number, group in enumerate(groups.values()):
        tables |= _tables_of(group, corpus, settings, first=number == 0)
    order = []
    for name in opened:
        order += [name, *([RANDOM.format(name)] if settings.random_weights else [])]
    return {name: tables[name] for name in (*order, *(set(tables) - set(order)))}


def _tables_of(
    group: Opened, corpus: LabelledCorpus, settings: RefereeSettings, *, first: bool
) -> dict[str, FeatureTable]:
    """Features of entrants of one size and view; with the `first` those that need no network."""
    backbones: dict[str, nn.Module] = {name: own.backbone for name, own in group.items()}
    if settings.random_weights:
        backbones |= {
            RANDOM.format(name): own.random_double(settings.seed) for name, own in group.items()
        }
    # those of video want all frames of a clip, and then all of the group get them
    widest = max(group.values(), key=lambda own: own.window is not None)
    landmarks = first and _has_landmarks(corpus)
    tables = extract_corpus(
        aligned_clips(widest, corpus, stride=settings.stride),
        backbones | ({PIXELS: Pixels()} if first else {}),
        true_landmarks=landmarks,
        stride=settings.stride,
    )
    if landmarks and corpus.statement.get("detector") != RENDERED:
        tables[LANDMARKS] = tables.pop(TRUE_LANDMARKS)
    return tables


def _has_landmarks(corpus: LabelledCorpus) -> bool:
    clip = next(scan(corpus.url, image_size=32, frames_per_clip=1))
    return clip.landmarks is not None


def _fit(table: FeatureTable, task: Task, settings: RefereeSettings) -> Predictor:
    if settings.label_share < 1:
        table = keep_labels(table, settings.label_share, settings.seed)
    if settings.protocol == "linear":
        return fit_linear(table.only_labelled(), task, settings.probe)
    network = dataclasses.replace(settings.network, kind="mlp", seed=settings.seed)
    return fit_network(table, task, network)

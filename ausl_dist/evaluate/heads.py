"""Trained heads as entrants: what a run learnt from labels, backbone, temporal module and all,
scored on people whom it has not seen.

    RUN, or BUNDLE ──▶ backbone and head, over each clip in order ──▶ a score of every frame ──▶ table
        ──▶ folds over people ──▶ sealed test fold, refused where the run saw one of them ──▶ Comparison

Nothing is fitted here: a head's decisions were made in training, and what it looked at are the
people of its run's corpora, whether their frames had labels or not. The constant and the guess
are fitted on the other folds, as everywhere. Weights that a run started from are not followed
back: that the first stage saw none of the people tested on is for the user to see to.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ausl_dist.batch import View
from ausl_dist.evaluate.compare import CompareSettings, Comparison, Fit, compare
from ausl_dist.evaluate.features.entrant import fastest_device
from ausl_dist.evaluate.features.table import FeatureTable, extract
from ausl_dist.evaluate.folds.sealed import Decided, Looked, deal_subjects
from ausl_dist.evaluate.predictors.base import Task
from ausl_dist.evaluate.released import LabelledCorpus, checked_clips, open_corpus
from ausl_dist.release.fitted import find_head
from ausl_dist.release.load import BundleInfo, ReleasedBackbone, load_backbone
from ausl_dist.release.network import CONFIG_NAME, load_tensors
from ausl_dist.release.preprocessing import describe
from ausl_dist.release.run import open_run, read_statements
from ausl_dist.stream.scan import ScannedClip, metas, scan


@dataclass(frozen=True)
class TrainedHead:
    """A head, the backbone it was trained with, and the people that the training showed them."""

    released: ReleasedBackbone = field(repr=False)
    identities: frozenset[str]

    @property
    def sees(self) -> tuple[int, View]:
        """Image size and view: heads that share them share a pass over the corpus."""
        preprocessing = self.released.info.preprocessing
        return preprocessing.image_size, preprocessing.as_view()

    @property
    def units(self) -> tuple[int, ...]:
        assert self.released.head is not None
        return self.released.head.spec.action_units

    @property
    def task(self) -> Task:
        assert self.released.head is not None
        return "intensity" if self.released.head.spec.unit == "intensity" else "occurrence"

    def scores(self, clip: ScannedClip) -> NDArray[np.float32]:
        """Scores T K of all frames of a clip, each with those before it in sight."""
        found = self.released.features(clip.frames).action_units
        assert found is not None
        return found.values.numpy()


@dataclass(frozen=True)
class TrainedPredictor:
    """A head to the rest of the room: the table's features are its scores already."""

    task: Task
    action_units: tuple[int, ...]
    columns: tuple[int, ...]  # of these units, in the features
    decided: Decided = field(repr=False)

    @property
    def threshold(self) -> NDArray[np.float64]:
        return np.full(len(self.action_units), 0.5)

    def predict(self, table: FeatureTable) -> NDArray[np.float32]:
        """Intensity in 0-5, or probability, [N, K]."""
        return table.features[:, list(self.columns)]


def open_head(folder: Path, seen: Callable[[str], frozenset[str]] | None = None) -> TrainedHead:
    """The head of a run folder, at its newest checkpoint, or of a bundle.

    `seen` tells the people of the corpus at a URL; by default all of its clip records are read.
    Raises ValueError where there is no head.
    """
    seen = seen or people_of
    released = (
        load_backbone(folder) if (folder / CONFIG_NAME).is_file() else _open_trained_run(folder)
    )
    if released.head is None:
        raise ValueError(
            f"{folder} has no action-unit head: name a run with the objective action_units, or a "
            "bundle that was released with one"
        )
    corpora: Mapping[str, Any] = released.info.record["config"]["data"]["corpora"]
    identities = frozenset().union(*(seen(corpus["url"]) for corpus in corpora.values()))
    return TrainedHead(released.to(fastest_device()), identities)


def people_of(url: str) -> frozenset[str]:
    """The identities of a corpus."""
    return frozenset(meta.identity for meta in metas(url))


def compare_heads(
    folders: Mapping[str, Path],
    url: str,
    settings: CompareSettings | None = None,
    *,
    folds: int = 4,
    stride: int = 1,
) -> tuple[Comparison, dict[str, Any]]:
    """Score heads by name on every `stride`-th frame of the labelled corpus at `url`, people
    dealt to `folds`.

    Returns the comparison and what it was made of, for the report. Raises LeakError where a run
    saw a person of the corpus, ValueError where heads differ in task.
    """
    known: dict[str, frozenset[str]] = {}

    def seen(corpus: str) -> frozenset[str]:
        if corpus not in known:
            known[corpus] = people_of(corpus)
        return known[corpus]

    heads = {name: open_head(folder, seen) for name, folder in folders.items()}
    tasks = {head.task for head in heads.values()}
    if len(tasks) != 1:
        raise ValueError(
            "heads of intensity and of detection cannot share a table: compare apart"
        )
    corpus = open_corpus(url)
    tables = _tables(heads, corpus, stride)
    settings = dataclasses.replace(settings or CompareSettings(), task=tasks.pop())
    settings = dataclasses.replace(
        settings, action_units=_common_units(heads, tables, settings)
    )
    first = next(iter(tables.values()))
    dealt = deal_subjects(first.present_subjects(), folds, settings.seed)
    parts = [
        (f"fold {number + 1}", tuple(name for name, fold in dealt.items() if fold == number))
        for number in range(max(dealt.values()) + 1)
    ]
    fits = {name: _fit(head) for name, head in heads.items()}
    context = {
        "kind": "heads",
        "backbone": {"name": ", ".join(heads)},
        "heads": {name: _describe(head) for name, head in heads.items()},
        "corpus": {"url": url, "digest": corpus.digest, "name": corpus.statement.get("name")},
        "settings": {"stride": stride, **dataclasses.asdict(settings)},
    }
    return compare(tables, settings, folds=parts, fit=fits), context


def _open_trained_run(folder: Path) -> ReleasedBackbone:
    run = open_run(folder)
    settings = run.settings.backbone
    backbone = load_tensors(settings.bare(), run.read_weights(), str(run.checkpoint))
    head = find_head(run, "run", "")
    statements = read_statements(run, {})
    info = BundleInfo(
        identity="",
        name=run.settings.name,
        step=run.step,
        backbone=settings.bare(),
        preprocessing=describe(list(statements.values()), settings.image_size),
        corpora=statements,
        record={"config": dataclasses.asdict(run.settings)},
    )
    built = None if head is None else head.built_on(backbone.dim, backbone.map_dim)
    return ReleasedBackbone(backbone, info, built)


def _tables(
    heads: Mapping[str, TrainedHead], corpus: LabelledCorpus, stride: int
) -> dict[str, FeatureTable]:
    """The scores of every head, one pass over the corpus for all that see the same pictures."""
    groups: dict[tuple[int, View], dict[str, TrainedHead]] = {}
    for name, head in heads.items():
        groups.setdefault(head.sees, {})[name] = head
    tables: dict[str, FeatureTable] = {}
    for (size, view), group in groups.items():
        alignment = next(iter(group.values())).released.info.preprocessing.alignment
        clips = checked_clips(scan(corpus.url, image_size=size, view=view), corpus, alignment)
        of_clips = {name: head.scores for name, head in group.items()}
        tables |= extract({}, clips, of_clips=of_clips)
    # all frames were looked at, so that a state sees its own past; these are scored
    return {
        name: tables[name].take(np.flatnonzero(tables[name].frame % stride == 0))
        for name in heads
    }


def _common_units(
    heads: Mapping[str, TrainedHead],
    tables: Mapping[str, FeatureTable],
    settings: CompareSettings,
) -> tuple[int, ...]:
    table = next(iter(tables.values()))
    shown = [
        unit
        for column, unit in enumerate(table.action_units)
        if (table.labels[:, column] > 0).any()
    ]
    units = tuple(
        unit
        for unit in (settings.action_units or shown)
        if all(unit in head.units for head in heads.values())
    )
    if not units:
        raise ValueError(
            f"no action unit is known to all heads and shown in the corpus, which shows {shown}"
        )
    return units


def _fit(head: TrainedHead) -> Fit:
    """Nothing to fit: the columns of the table's units, and whom the training saw."""

    def fit(table: FeatureTable, task: Task) -> TrainedPredictor:
        columns = tuple(head.units.index(unit) for unit in table.action_units)
        looked = Looked(head.identities)
        decisions = {"task": task, "kind": "trained head", **_describe(head)}
        return TrainedPredictor(task, table.action_units, columns, Decided(looked, decisions))

    return fit


def _describe(head: TrainedHead) -> dict[str, Any]:
    assert head.released.head is not None
    info = head.released.info
    return {
        "name": info.name,
        "step": info.step,
        "architecture": info.architecture,
        "head": head.released.head.spec.source,
    }

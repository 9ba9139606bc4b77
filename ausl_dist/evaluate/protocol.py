"""A data set and a backbone under one protocol: the steps behind `python -m tools.evaluate
bundle=… data=… root=…`.

data set on disk ──reader, cropping as in pretraining──▶ cached corpus
    ──▶ frozen features, or pictures, for backbone and random weights
    ──▶ published subject-exclusive folds ──▶ predictor per fold ──▶ sealed test folds ──▶ comparison, report
                                                    └─ again with fewer labels; again on disturbed crops
"""

import dataclasses
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ausl_dist.evaluate.adapters import ForeignSettings, open_foreign
from ausl_dist.evaluate.compare import CompareSettings, Comparison, Fit, compare
from ausl_dist.evaluate.datasets import DataSet, Recording, find_data_set
from ausl_dist.evaluate.datasets.cache import cached_corpus
from ausl_dist.evaluate.datasets.lists import as_listed, read_list
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.splits import folds
from ausl_dist.evaluate.predictors.base import Predictor, Task
from ausl_dist.evaluate.predictors.finetune import FinetuneSettings, fit_finetune
from ausl_dist.evaluate.predictors.networks import NetworkSettings, fit_network, keep_labels
from ausl_dist.evaluate.predictors.pictures import PictureStore, PictureWriter
from ausl_dist.evaluate.predictors.probe import ProbeSettings, fit_linear
from ausl_dist.evaluate.released import (
    PRETRAINED,
    RANDOM,
    LabelledCorpus,
    aligned_clips,
    extract_corpus,
    open_bundle,
    open_corpus,
)
from ausl_dist.evaluate.scores.alignment import Disturbance, disturbed, measure
from ausl_dist.evaluate.scores.identity_leak import identity_leak
from ausl_dist.files import as_ours, json_object
from ausl_dist.progress import shown
from ausl_dist.shards import storage
from ausl_dist.shards.publish import LEDGER_NAME

MAX_LEDGER_BYTES = 256 << 20


@dataclass(frozen=True)
class ProtocolSettings:
    """One evaluation of one backbone on one data set."""

    data: str  # a name of evaluate.datasets
    root: str  # the data set as it was distributed
    lists: tuple[
        str, ...
        # files of another code base (datasets/lists.py) to take instead of the labels under
        # root
    ] = ()
    bundle: str | None = None  # a released backbone
    foreign: ForeignSettings | None = None  # or somebody else's
    out: str = "evaluation"
    cache: str = "~/.cache/ausl_dist/evaluate"  # cropped data sets are kept here
    protocol: Literal["linear", "mlp", "temporal", "finetune"] = "linear"
    task: Literal["auto", "intensity", "occurrence"] = (
        "auto"  # auto: as the data set is labelled
    )
    # a published split, where there are several: ARL for the intensities of DISFA
    split: str = "usual"
    # of the training frames keep their labels, drawn at random with `seed`; 0.02 is the 2 % of
    # the literature
    label_share: float = 1.0
    label_rates: tuple[float, ...] = ()  # shares of a curve: the whole protocol again with each
    alignment_meter: bool = False  # score again on crops that are shifted, scaled, turned
    stride: int = 1
    models: str | None = None  # folder of the face detection models
    resamples: int = 1000
    seed: int = 0
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)

    def __post_init__(self) -> None:
        if (self.bundle is None) == (self.foreign is None):
            raise ValueError(
                "give one backbone: bundle=DIR of a released one, or foreign.kind=… (timm, "
                "state_dict, mae, marlin)"
            )
        if not all(0 < share <= 1 for share in (self.label_share, *self.label_rates)):
            raise ValueError(
                f"label_share and label_rates must lie in (0, 1], not {self.label_share} and "
                f"{self.label_rates}"
            )
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, not {self.stride}")
        if self.alignment_meter and self.protocol == "finetune":
            raise ValueError(
                "the alignment meter disturbs frozen features: alignment_meter=true needs "
                "protocol=linear, mlp or temporal"
            )


def run_protocol(settings: ProtocolSettings) -> tuple[Comparison, dict[str, Any]]:
    """Run it; returns the comparison and what it was made of, for the report."""
    cache = Path(settings.cache).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="pictures-") as scratch:
        evaluation = _Evaluation(settings, cache, Path(scratch))
        comparison = evaluation.compare(settings.label_share)
        context = {
            "kind": "protocol",
            "backbone": evaluation.entrant.description,
            "corpus": {
                "url": evaluation.corpus.url,
                "digest": evaluation.corpus.digest,
                "name": settings.data,
            },
            "settings": dataclasses.asdict(settings),
            "frames_left_out": _left_out(evaluation.corpus),
            "label_rates": [evaluation.at_label_rate(share) for share in settings.label_rates],
            "identity_leak": evaluation.identity_leaks(),
            "alignment": evaluation.alignment(comparison) if settings.alignment_meter else [],
        }
    return comparison, context


def read_labels(settings: ProtocolSettings) -> tuple[DataSet, list[Recording]]:
    """The data set as its own labels, or the lists, describe it, and its recordings."""
    data_set = find_data_set(settings.data)
    if not settings.lists:
        task_of(data_set, settings.task)  # a wrong task is told before anything is read
        return data_set, data_set.read(Path(settings.root))
    recordings = [
        recording
        for file in settings.lists
        for recording in read_list(Path(file), settings.data, Path(settings.root))
    ]
    return as_listed(data_set, recordings), recordings


class _Evaluation:
    """What is opened and extracted once, and compared as often as the settings ask."""

    def __init__(self, settings: ProtocolSettings, cache: Path, scratch: Path) -> None:
        data_set, recordings = read_labels(settings)
        task = task_of(data_set, settings.task)
        self.settings = settings
        self.entrant = _entrant(settings)
        cropping = shown(recordings, "cropping, recordings", len(recordings))
        self.corpus = open_corpus(
            cached_corpus(
                settings.data, recordings, cache, models=settings.models, shown=cropping
            )
        )
        self._backbones = {
            PRETRAINED: self.entrant.backbone,
            RANDOM: self.entrant.random_double(settings.seed),
        }
        self._pictures: PictureStore | None = None
        clips = aligned_clips(self.entrant, self.corpus, stride=settings.stride)
        if settings.protocol == "finetune" and self.entrant.window is not None:
            raise ValueError(
                "fine-tuning shows a network frames one by one, and this one wants those around "
                "each: protocol=linear, mlp or temporal"
            )
        if settings.protocol == "finetune":
            writer = PictureWriter(scratch / "pictures.bin")
            self._tables = extract_corpus(
                writer.passing(clips), {name: _NoFeatures() for name in self._backbones}
            )
            self._pictures = writer.close()
        else:
            self._tables = extract_corpus(clips, self._backbones, stride=settings.stride)
        occurrence = task == "occurrence" and data_set.occurrence_units
        self._comparing = CompareSettings(
            task=task,
            positive_from=data_set.positive_from,
            action_units=data_set.occurrence_units if occurrence else data_set.action_units,
            resamples=settings.resamples,
            seed=settings.seed,
        )
        present = self._tables[PRETRAINED].present_subjects()
        self._folds = folds(settings.data, present, split=settings.split, seed=settings.seed)

    def compare(self, label_share: float) -> Comparison:
        """The whole comparison with this share of the labels."""
        fits = {
            name: self._fit(backbone, label_share) for name, backbone in self._backbones.items()
        }
        return compare(self._tables, self._comparing, folds=self._folds, fit=fits)

    def at_label_rate(self, share: float) -> dict[str, Any]:
        """One point of the label-rate curve: the main score of each row, and the seed that drew
        the labels.
        """
        comparison = self.compare(share)
        rows = {}
        for row in comparison.rows:
            pooled = row.scores[comparison.main].to_json()
            mean = row.mean_of_folds(comparison.main).to_json()["mean"]
            rows[row.name] = {
                "mean_of_folds": mean,
                "pooled": pooled["mean"],
                "interval": pooled["interval"],
            }
        return {"share": share, "seed": self.settings.seed, "rows": rows}

    def identity_leaks(self) -> dict[str, Any]:
        """Share of frames whose subject a linear probe names, by row; why not, where it cannot
        be measured.
        """
        if self._pictures is not None:
            return {"not measured": "fine-tuning leaves no frozen features"}
        try:
            return {
                name: dataclasses.asdict(identity_leak(table))
                for name, table in self._tables.items()
            }
        except ValueError as error:
            return {"not measured": str(error)}

    def alignment(self, comparison: Comparison) -> list[dict[str, Any]]:
        """The alignment meter of the first row."""

        def table_of(disturbance: Disturbance) -> FeatureTable:
            clips = disturbed(
                aligned_clips(self.entrant, self.corpus, stride=self.settings.stride),
                disturbance,
            )
            only = {PRETRAINED: self.entrant.backbone}
            return extract_corpus(clips, only, stride=self.settings.stride)[PRETRAINED]

        return measure(comparison, self._comparing, table_of)

    def _fit(self, backbone: nn.Module, label_share: float) -> Fit:
        settings = self.settings

        def fit(table: FeatureTable, task: Task) -> Predictor:
            if label_share < 1:
                table = keep_labels(table, label_share, settings.seed)
            if self._pictures is not None:
                return fit_finetune(
                    table,
                    task,
                    backbone,
                    self._pictures,
                    dataclasses.replace(settings.finetune, seed=settings.seed),
                )
            if settings.protocol == "linear":
                return fit_linear(table.only_labelled(), task, settings.probe)
            kind: Literal["mlp", "temporal"] = (
                "temporal" if settings.protocol == "temporal" else "mlp"
            )
            return fit_network(
                table,
                task,
                dataclasses.replace(settings.network, kind=kind, seed=settings.seed),
            )

        return fit


class _NoFeatures(nn.Module):
    """Stands in for a backbone where only labels and pictures are wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.eval().register_parameter("nothing", nn.Parameter(torch.zeros(0)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.new_zeros(len(images), 0), images


def _entrant(settings: ProtocolSettings) -> Entrant:
    if settings.foreign is not None:
        return open_foreign(settings.foreign)
    assert settings.bundle is not None
    return open_bundle(settings.bundle)


def _left_out(corpus: LabelledCorpus) -> dict[str, int]:
    """Labelled frames and why some are in no score: published counts differ for this reason."""
    address = storage.join(corpus.url, LEDGER_NAME)
    data = storage.read_bytes(address, MAX_LEDGER_BYTES)
    lines = [json_object(line, address) for line in data.splitlines()]
    with as_ours(address):
        return {
            name: sum(int(line[name]) for line in lines)
            for name in ("labelled", "kept", "without_face", "without_picture")
        }


def task_of(data_set: DataSet, wanted: Literal["auto", "intensity", "occurrence"]) -> Task:
    """What is asked of a data set; ValueError where its labels do not tell that."""
    if wanted == "intensity" and data_set.kind == "occurrence":
        raise ValueError(
            f"{data_set.name} is labelled with occurrence, not intensity: leave task out, "
            "or set task=occurrence"
        )
    return data_set.kind if wanted == "auto" else wanted

"""What a released backbone is worth on a labelled corpus: the steps behind `python -m
tools.evaluate compare`.

    bundle ──▶ backbone, and its double with random weights ──one pass over the corpus──▶ features
        ──▶ comparison, report

On a rendered corpus the true landmarks are a third row: a linear map from them is close to what
can be known of these faces at all.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ausl_dist.evaluate.compare import CompareSettings, Comparison, compare
from ausl_dist.evaluate.features.entrant import Entrant, fastest_device
from ausl_dist.evaluate.features.pixels import PIXELS, Pixels
from ausl_dist.evaluate.features.table import FeatureTable, extract
from ausl_dist.files import json_object
from ausl_dist.model.backbones import build_backbone
from ausl_dist.progress import shown
from ausl_dist.release.load import ReleasedBackbone, load_backbone
from ausl_dist.release.network import weights_sha256
from ausl_dist.shards import storage
from ausl_dist.shards.clip import RENDERED
from ausl_dist.shards.index import Index
from ausl_dist.stream.scan import ScannedClip, scan

PRETRAINED, RANDOM = "pretrained", "random weights"
MAX_STATEMENT_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class LabelledCorpus:
    """A labelled corpus at a URL, opened."""

    url: str
    digest: str
    clips: int
    statement: dict[str, Any]


def open_corpus(url: str) -> LabelledCorpus:
    """Read index and statement of a corpus; ValueError when it holds no labels."""
    index = Index.load(url)
    address = storage.join(url, "corpus.json")  # a corpus made elsewhere has none
    statement = (
        json_object(storage.read_bytes(address, MAX_STATEMENT_BYTES), address)
        if storage.exists(address)
        else {}
    )
    if not statement.get("labelled_clips", 1):
        raise ValueError(
            f"the corpus at {url} has no labels; evaluation needs clips with KEY.au.npy"
        )
    return LabelledCorpus(url, index.digest, index.num_clips, statement)


def compare_bundle(
    bundle: Path | str, url: str, settings: CompareSettings | None = None, *, stride: int = 1
) -> tuple[Comparison, dict[str, Any]]:
    """Compare a bundle with random weights, the pixels and a constant on every `stride`-th
    frame of the corpus at `url`.

    Returns the comparison and what it was made of, for the report. Raises ValueError for a
    corpus whose faces were cropped otherwise.
    """
    settings = settings or CompareSettings()
    entrant = open_bundle(bundle)
    corpus = open_corpus(url)
    backbones = {
        PRETRAINED: entrant.backbone,
        RANDOM: entrant.random_double(settings.seed),
        PIXELS: Pixels(),
    }
    truth = corpus.statement.get("detector") == RENDERED
    tables = extract_corpus(
        aligned_clips(entrant, corpus, stride=stride),
        backbones,
        true_landmarks=truth,
        stride=stride,
    )
    context = {
        "kind": "compare",
        "backbone": entrant.description,
        "corpus": {"url": url, "digest": corpus.digest, "name": corpus.statement.get("name")},
        "settings": {"stride": stride, **dataclasses.asdict(settings)},
    }
    return compare(tables, settings), context


def open_bundle(bundle: Path | str) -> Entrant:
    """A released backbone, checked, with its own crop and a double of random weights."""
    released = load_backbone(bundle)
    preprocessing = released.info.preprocessing
    settings = released.info.backbone
    return Entrant(
        backbone=released.backbone,
        fresh=lambda: build_backbone(settings),
        image_size=preprocessing.image_size,
        view=preprocessing.as_view(),
        alignment=preprocessing.alignment,
        description=_describe(released, Path(bundle)),
    )


def aligned_clips(
    entrant: Entrant, corpus: LabelledCorpus, *, stride: int = 1
) -> Iterator[ScannedClip]:
    """The clips of a corpus in the entrant's view, every `stride`-th frame of them, and every
    one where it looks around a frame; ValueError at one that was aligned otherwise than the
    entrant was trained on.
    """
    step = stride if entrant.window is None else 1
    clips = scan(corpus.url, image_size=entrant.image_size, view=entrant.view, stride=step)
    return checked_clips(clips, corpus, entrant.alignment)


def checked_clips(
    clips: Iterator[ScannedClip], corpus: LabelledCorpus, alignment: str | None
) -> Iterator[ScannedClip]:
    """The clips of a corpus, with progress; ValueError at one of another alignment."""
    return (_checked(clip, alignment) for clip in shown(clips, "features, clips", corpus.clips))


def extract_corpus(
    clips: Iterable[ScannedClip],
    backbones: dict[str, nn.Module],
    *,
    true_landmarks: bool = False,
    keep_unlabelled: bool = False,
    stride: int = 1,
) -> dict[str, FeatureTable]:
    """Features of every `stride`-th frame of clips by several backbones, on the fastest
    device.
    """
    device = fastest_device()
    placed = {name: backbone.to(device) for name, backbone in backbones.items()}
    return extract(
        placed,
        clips,
        true_landmarks=true_landmarks,
        keep_unlabelled=keep_unlabelled,
        stride=stride,
    )


def _checked(clip: ScannedClip, alignment: str | None) -> ScannedClip:
    if alignment is not None and clip.meta.alignment != alignment:
        raise ValueError(
            f"clip {clip.key} was aligned with {clip.meta.alignment}, the backbone was trained on "
            f"{alignment}: scores would measure the "
            "difference of the crops; build the corpus again with this version"
        )
    return clip


def _describe(released: ReleasedBackbone, bundle: Path) -> dict[str, Any]:
    """What identifies the evaluated weights; a release puts a report into a bundle only when
    these are its own.
    """
    return {
        "name": released.info.name,
        "architecture": released.info.architecture,
        "step": released.info.step,
        "readout": released.info.backbone.readout.kind,
        "weights_sha256": weights_sha256(bundle),
        "preprocessing_sha256": released.info.preprocessing.digest,
    }

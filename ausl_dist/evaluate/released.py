"""What a released backbone is worth on a labelled corpus: the steps behind `tools/evaluate.py compare`.

    bundle ──▶ backbone, and its double with random weights ──one pass over the corpus──▶ features ──▶ comparison, report

On a rendered corpus the true landmarks are a third row: a linear map from them is close to what can be known of these faces at all.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from ausl_dist.backbones import Backbone, BackboneSettings, build_backbone
from ausl_dist.evaluate.compare import CompareSettings, Comparison, compare
from ausl_dist.evaluate.features import FeatureTable, extract
from ausl_dist.evaluate.progress import shown
from ausl_dist.files import sha256_of
from ausl_dist.release.load import ReleasedBackbone, load_backbone
from ausl_dist.release.network import WEIGHTS_NAME
from ausl_dist.stream import storage
from ausl_dist.stream.index import Index
from ausl_dist.stream.scan import ScannedClip, scan

PRETRAINED, RANDOM = "pretrained", "random weights"
RENDERED = "rendered"  # the detector of corpora whose landmarks are true by construction
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
    statement = json.loads(storage.read_bytes(address, MAX_STATEMENT_BYTES)) if storage.exists(address) else {}
    if not isinstance(statement, dict) or not statement.get("labelled_clips", 1):
        raise ValueError(f"the corpus at {url} has no labels; evaluation needs clips with KEY.au.npy")
    return LabelledCorpus(url, index.digest, index.num_clips, statement)


def compare_bundle(
    bundle: Path | str, url: str, settings: CompareSettings | None = None, *, stride: int = 1
) -> tuple[Comparison, dict[str, Any]]:
    """Compare a bundle with random weights and a constant on every `stride`-th frame of the corpus at `url`.

    Returns the comparison and what it was made of, for the report. Raises ValueError for a corpus whose faces were cropped otherwise.
    """
    settings = settings or CompareSettings()
    released = load_backbone(bundle)
    corpus = open_corpus(url)
    backbones = {PRETRAINED: released.backbone, RANDOM: random_double(released, settings.seed)}
    comparison = compare(extract_corpus(released, backbones, corpus, stride=stride), settings)
    context = {
        "kind": "compare",
        "backbone": describe_backbone(released, Path(bundle)),
        "corpus": {"url": url, "digest": corpus.digest, "name": corpus.statement.get("name")},
        "settings": {"stride": stride, **dataclasses.asdict(settings)},
    }
    return comparison, context


def extract_corpus(
    released: ReleasedBackbone, backbones: dict[str, Backbone], corpus: LabelledCorpus, *, stride: int = 1, keep_unlabelled: bool = False
) -> dict[str, FeatureTable]:
    """Features of a corpus by several backbones, with the bundle's own view of the crop."""
    preprocessing = released.info.preprocessing
    clips = scan(corpus.url, image_size=preprocessing.image_size, view=preprocessing.as_view(), stride=stride)
    aligned = (_checked(clip, preprocessing.alignment) for clip in shown(clips, "features, clips", corpus.clips))
    truth = corpus.statement.get("detector") == RENDERED
    return extract(backbones, aligned, true_landmarks=truth, keep_unlabelled=keep_unlabelled)


def _checked(clip: ScannedClip, alignment: str) -> ScannedClip:
    if clip.meta.alignment != alignment:
        raise ValueError(
            f"clip {clip.key} was aligned with {clip.meta.alignment}, the backbone was trained on {alignment}: scores would measure the "
            "difference of the crops; build the corpus again with this version"
        )
    return clip


def random_double(released: ReleasedBackbone, seed: int) -> Backbone:
    """The same network with random weights of a fixed seed."""
    settings = BackboneSettings(released.info.architecture, released.info.preprocessing.image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_backbone(settings).eval()


def describe_backbone(released: ReleasedBackbone, bundle: Path) -> dict[str, Any]:
    """What identifies the evaluated weights; a release puts a report into a bundle only when these are its own."""
    return {
        "name": released.info.name,
        "architecture": released.info.architecture,
        "step": released.info.step,
        "weights_sha256": sha256_of(bundle / WEIGHTS_NAME),
        "preprocessing_sha256": released.info.preprocessing.digest,
    }

"""A released backbone, back in five lines and checked before the first of them returns.

    bundle folder or hub id ──verify every hash──▶ config, preprocessing, weights ──▶ ReleasedBackbone

    backbone.preprocess(video or picture) ──▶ faces ──▶ backbone.features(faces)
        ──▶ Features per frame and for the clip

Nothing is ever unpickled: weights are safetensors, everything else is JSON.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ausl_dist.model.backbones import Backbone, BackboneSettings
from ausl_dist.model.encode import encode_stream
from ausl_dist.release.action_units import ActionUnitScores, columns_of
from ausl_dist.release.detection import MODELS_NAME, model_files
from ausl_dist.release.faces import DEFAULT_FPS, FaceFrame, Faces, Source
from ausl_dist.release.head import SPEC_NAME, TENSORS_NAME, ActionUnitHead, read_head
from ausl_dist.release.network import (
    CONFIG_NAME,
    FORMAT,
    READOUT_NAME,
    WEIGHTS_NAME,
    load_weights,
)
from ausl_dist.release.over_time import Memory, Row
from ausl_dist.release.preprocessing import (
    PREPROCESSING_NAME,
    Preprocessing,
    read_preprocessing,
)
from ausl_dist.release.verify import BundleError, read_object, read_sums, release_name, verify
from ausl_dist.settings import SettingsError, from_mapping

HUB_PREFIX = "hf-hub:"
CORPUS_NAME, RECORD_NAME = "corpus.json", "record.json"


@dataclass(frozen=True)
class BundlePart:
    """Some faces of a source, in the order in which they are found."""

    rows: list[Row]  # frame number, track, seconds
    features: Tensor  # n D
    scores: Tensor | None  # n K, where the bundle has a head


@dataclass(frozen=True)
class FaceFeatures:
    """Frozen features of one clip.

    Of a video, `number`, `seconds` and `track` say which face of which frame each row is.
    """

    frames: Tensor  # T D float32
    clip: Tensor  # D, mean over the frames
    number: Tensor  # T int64, at the backbone's frame rate; frames without a face are not there
    seconds: Tensor  # T float64
    track: Tensor  # T int64
    action_units: ActionUnitScores | None = None  # where the bundle has a head


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says of itself."""

    identity: str  # SHA-256 of its SHA256SUMS: equal content, equal identity
    name: str
    step: int
    backbone: BackboneSettings
    preprocessing: Preprocessing
    corpora: Mapping[str, Any]
    record: Mapping[str, Any]
    models: Path | None = None  # the detection models in the bundle, where it carries them

    @property
    def architecture(self) -> str:
        """The network's name, as timm has it."""
        return self.backbone.name

    @property
    def release(self) -> str:
        """Its name by content: NAME-STEP-HASH."""
        return release_name(self.name, self.step, self.identity)


class ReleasedBackbone(nn.Module):
    """A frozen backbone with the preprocessing it was trained on.

    Called like a module it maps normalised images N 3 H W to pooled features N D.
    """

    def __init__(
        self, backbone: Backbone, info: BundleInfo, head: ActionUnitHead | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.head = head
        self.info = info

    @property
    def dim(self) -> int:
        return self.backbone.dim

    def train(self, mode: bool = True) -> "ReleasedBackbone":
        """Stays in eval mode: batch statistics of a user's data must not change released
        features.

        Fine-tune `.backbone` instead.
        """
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.backbone(images)[0]
        return pooled

    def preprocess(
        self, source: Source, *, models: Path | str | None = None, everyone: bool = False
    ) -> Faces:
        """The faces of a video, a folder of numbered frames or a picture (path, or uint8 [H, W,
        3] RGB), aligned as in training.

        Nothing is read until the result is iterated or given to `features`. `models` is the
        folder of the detection models (default: those of the bundle, or their usual place);
        `everyone` gives all faces of a frame instead of the largest.
        """
        return Faces(
            source,
            self.info.preprocessing,
            models=models or self.info.models,
            everyone=everyone,
        )

    def features(self, clip: Tensor | Faces | Iterable[FaceFrame]) -> FaceFeatures:
        """Features of a clip of any length: faces from `preprocess`, or normalised frames T C H
        W, in bounded memory.

        A clip's features do not depend on what else is in a batch: a batch B T C H W is
        `[backbone.features(clip) for clip in batch]`. Raises ValueError for frames of another
        shape, and for none at all.
        """
        if isinstance(clip, Tensor):
            if clip.ndim != 4:
                raise ValueError(
                    "a clip is a tensor T C H W of normalised frames, "
                    f"not one of shape {tuple(clip.shape)}"
                )
            faces: Iterable[FaceFrame] = (
                FaceFrame(0, i, i / self._fps, pixels) for i, pixels in enumerate(clip)
            )
        else:
            faces = clip
        parts = list(self.iterate(faces))
        if not parts:
            raise ValueError(
                "the clip has no frames: no face was found, or an empty tensor was given"
            )
        rows = [row for part in parts for row in part.rows]
        # tracks that end are given out before those that go on
        order = sorted(range(len(rows)), key=rows.__getitem__)
        number, track, seconds = zip(*(rows[index] for index in order), strict=True)
        frames = torch.cat([part.features for part in parts])[order]
        times = torch.tensor(seconds, dtype=torch.float64)
        scores = None
        if self.head is not None:
            spec, values = (
                self.head.spec,
                torch.cat([part.scores for part in parts if part.scores is not None]),
            )
            scores = ActionUnitScores(values[order], spec.action_units, spec.names, spec.unit)
        return FaceFeatures(
            frames, frames.mean(0), torch.tensor(number), times, torch.tensor(track), scores
        )

    @property
    def score_columns(self) -> tuple[str, ...]:
        """Headings of the action-unit scores, as AU12_intensity; none without a head."""
        return (
            ()
            if self.head is None
            else columns_of(self.head.spec.action_units, self.head.spec.unit)
        )

    def iterate(self, faces: Iterable[FaceFrame]) -> Iterator["BundlePart"]:
        """A few faces with their features and scores, again and again: bounded memory for any
        length.
        """
        size = self.info.preprocessing.image_size
        waiting: list[Row] = []

        def pixels() -> Iterator[Tensor]:
            for face in faces:
                if tuple(face.pixels.shape) != (3, size, size):
                    found = tuple(face.pixels.shape)
                    raise ValueError(
                        f"this backbone takes frames of shape (3, {size}, {size}), not {found}: "
                        "use .preprocess()"
                    )
                waiting.append((face.frame, face.track, face.seconds))
                yield face.pixels

        recurrent = self.head is not None and self.head.over_time is not None
        memory = Memory()
        for found in encode_stream(
            _WithMaps(self.backbone) if recurrent else self.backbone, pixels()
        ):
            rows, features, maps = waiting[: len(found)], found[:, : self.dim], None
            if recurrent:
                # maps of square pictures are square
                width = self.backbone.map_dim
                side = math.isqrt((found.shape[1] - self.dim) // width)
                maps = found[:, self.dim :].unflatten(1, (width, side, side))
            yield BundlePart(
                rows,
                features,
                None if self.head is None else self.head.scores(rows, features, maps, memory),
            )
            del waiting[: len(found)]

    @property
    def _fps(self) -> float:
        return self.info.preprocessing.fps or DEFAULT_FPS


class _WithMaps(nn.Module):
    """A backbone that gives its feature maps behind the pooled features: N D+Dhw."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled, maps = self.backbone(images)
        return torch.cat([pooled, maps.flatten(1)], 1), maps


def load_backbone(path: str | Path) -> ReleasedBackbone:
    """Load a released backbone from a bundle folder, or from a hub as "hf-hub:ORG/NAME".

    Every file is checked against SHA256SUMS first. Raises BundleError, saying what to do, for a
    folder that is no bundle, a changed file, or a format of another version.
    """
    folder = _from_hub(str(path)) if str(path).startswith(HUB_PREFIX) else Path(path)
    if not folder.is_dir():
        raise BundleError(
            f"{folder} is not a folder; give a bundle folder, or a hub id as {HUB_PREFIX}ORG/NAME"
        )
    identity = verify(folder)
    sums = read_sums(folder)
    readout = {READOUT_NAME} if (folder / READOUT_NAME).is_file() else set()
    unchecked = readout | {
        CONFIG_NAME,
        WEIGHTS_NAME,
        PREPROCESSING_NAME,
        RECORD_NAME,
        CORPUS_NAME,
    }
    unchecked -= sums.keys()
    if unchecked:
        raise BundleError(
            f"{folder}: SHA256SUMS does not name {', '.join(sorted(unchecked))}; "
            "copy or download the bundle again"
        )
    settings = _backbone_settings(read_object(folder, CONFIG_NAME), folder)
    preprocessing = read_preprocessing(folder)
    if settings.image_size != preprocessing.image_size:
        raise BundleError(
            f"{folder}: {CONFIG_NAME} says pictures of {settings.image_size} pixels, "
            f"{PREPROCESSING_NAME} {preprocessing.image_size}; copy or download the bundle again"
        )
    record = read_object(folder, RECORD_NAME)
    run, step = record.get("run"), record.get("step")
    if not isinstance(run, str) or not isinstance(step, int) or not 0 <= step < 1 << 63:
        raise BundleError(
            f"{folder / RECORD_NAME} does not say which step of which run this is"
        )
    info = BundleInfo(
        identity=identity,
        name=run,
        step=step,
        backbone=settings,
        preprocessing=preprocessing,
        corpora=read_object(folder, CORPUS_NAME),
        record=record,
        models=folder / MODELS_NAME if model_files() <= sums.keys() else None,
    )
    try:
        backbone = load_weights(settings, folder / WEIGHTS_NAME)
    except ValueError as error:
        raise BundleError(f"{folder}: the weights cannot be used ({error})") from error
    head = None
    if {SPEC_NAME, TENSORS_NAME} <= sums.keys():
        head = read_head(folder, backbone.dim, backbone.map_dim)
    return ReleasedBackbone(backbone, info, head)


def _backbone_settings(config: Mapping[str, Any], folder: Path) -> BackboneSettings:
    own = config.get("ausl_dist")
    if not isinstance(own, dict):
        raise BundleError(
            f"{folder / CONFIG_NAME} is not of a bundle of ours; load it with timm: "
            f"timm.create_model('local-dir:{folder}')"
        )
    if own.get("format") != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {own.get('format')}, this ausl_dist reads {FORMAT}: "
            f"install ausl_dist {own.get('version')}"
        )
    try:
        settings = from_mapping(BackboneSettings, own.get("backbone"), "backbone")  # type: ignore[arg-type]
    except SettingsError as error:
        raise BundleError(f"{folder / CONFIG_NAME}: {error}") from error
    if settings.weights is not None:
        raise BundleError(f"{folder / CONFIG_NAME} names weights outside the bundle")
    return settings


def _from_hub(address: str) -> Path:
    from huggingface_hub import (
        snapshot_download,
    )  # here: a local bundle needs no network client

    return Path(snapshot_download(address.removeprefix(HUB_PREFIX)))

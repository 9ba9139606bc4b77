"""A labelled corpus as a table of frozen features: what every probe learns from.

    corpus URL ──stream.scan──▶ clips of frames
        ──backbone, eval mode──▶ FeatureTable: one row per labelled frame

A row carries its label (-1 unknown), subject, clip, frame number and a fingerprint of its
pixels, so that a split can be checked to share neither a subject nor a single image between its
parts.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import nn

from ausl_dist.evaluate.features.windows import encode_windows, window_of
from ausl_dist.model.encode import encode_frames
from ausl_dist.stream.scan import ScannedClip


@dataclass(frozen=True)
class FeatureTable:
    """N labelled frames.

    `labels` is intensity 0-5 or occurrence 0/1, as the corpus has it, and -1 where unknown.
    """

    features: NDArray[np.float32]  # N D
    labels: NDArray[np.int8]  # N K
    action_units: tuple[int, ...]  # K FACS numbers
    subject: NDArray[np.int32]  # N, index into subjects
    subjects: tuple[str, ...]
    clip: NDArray[np.int32]  # N, index into clips
    clips: tuple[str, ...]
    frame: NDArray[np.int32]  # N, frame number in the clip
    fingerprint: NDArray[np.uint64]  # N, hash of the pixels that the backbone saw

    def __post_init__(self) -> None:
        lengths = {
            f.name: len(getattr(self, f.name))
            for f in fields(self)
            if f.name not in ("action_units", "subjects", "clips")
        }
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns of unequal length: {lengths}")
        if self.labels.shape[1] != len(self.action_units):
            raise ValueError(
                f"{self.labels.shape[1]} label columns for {len(self.action_units)} action units"
            )

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: NDArray[Any]) -> "FeatureTable":
        """The chosen rows (mask or indices); names of subjects and clips stay, so that indices
        keep their meaning.
        """
        columns = {
            name: getattr(self, name)[rows]
            for name in ("features", "labels", "subject", "clip", "frame", "fingerprint")
        }
        return FeatureTable(
            **columns, action_units=self.action_units, subjects=self.subjects, clips=self.clips
        )

    def of_subjects(self, names: Iterable[str]) -> "FeatureTable":
        wanted = set(names)
        return self.take(
            np.isin(
                self.subject,
                [index for index, name in enumerate(self.subjects) if name in wanted],
            )
        )

    def present_subjects(self) -> tuple[str, ...]:
        """Subjects that have at least one row."""
        return tuple(self.subjects[index] for index in np.unique(self.subject))

    def only_units(self, units: Iterable[int]) -> "FeatureTable":
        """The same rows with these action units; ValueError where one is not labelled."""
        units = tuple(units)
        missing = set(units) - set(self.action_units)
        if missing:
            raise ValueError(
                f"no labels of AU {sorted(missing)}; labelled here: {list(self.action_units)}"
            )
        columns = [self.action_units.index(unit) for unit in units]
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return FeatureTable(
            **{**values, "labels": self.labels[:, columns], "action_units": units}
        )

    def only_labelled(self) -> "FeatureTable":
        """The rows that have a label of some action unit."""
        return self.take(np.flatnonzero((self.labels >= 0).any(1)))


TRUE_LANDMARKS = "true landmarks"
OfClip = Callable[[ScannedClip], NDArray[np.float32]]  # features T D of all frames of a clip


def extract(
    backbones: Mapping[str, nn.Module],
    clips: Iterable[ScannedClip],
    *,
    true_landmarks: bool = False,
    keep_unlabelled: bool = False,
    of_clips: Mapping[str, OfClip] | None = None,
    stride: int = 1,
) -> dict[str, FeatureTable]:
    """One table per backbone, all of the same frames, from one pass over the clips; backbones
    in eval mode.

    `true_landmarks` adds a table of that name whose features are the 136 landmark coordinates.
    `of_clips` adds tables of features that are functions of a whole clip. Frames without any
    known label are left out, except with `keep_unlabelled`, which models over time need, and so
    are frames whose number `stride` does not divide. Networks of video want clips of all frames.
    """
    of_clips = dict(of_clips or {})
    if true_landmarks:
        of_clips[TRUE_LANDMARKS] = _landmark_features
    rows = _Rows((*backbones, *of_clips))
    for clip in clips:
        labels = clip.action_units
        if labels is None:
            labels = np.full((len(clip.numbers), 0), -1, np.int8)
        wanted = clip.numbers % stride == 0
        chosen = np.flatnonzero(wanted if keep_unlabelled else wanted & (labels >= 0).any(1))
        if len(chosen):
            frames = (
                clip.frames
                if len(chosen) == len(clip.frames)
                else clip.frames[torch.from_numpy(chosen)]
            )
            features = {
                name: _encode(backbone, clip, chosen, frames).numpy()
                for name, backbone in backbones.items()
            }
            features |= {name: of_clip(clip)[chosen] for name, of_clip in of_clips.items()}
            rows.add(clip, labels[chosen], clip.numbers[chosen], frames, features)
    return rows.tables()


def _encode(
    backbone: nn.Module, clip: ScannedClip, chosen: NDArray[np.int64], frames: torch.Tensor
) -> torch.Tensor:
    window = window_of(backbone)
    if window is None:
        return encode_frames(backbone, frames)
    if len(clip.numbers) > 1 and (np.diff(clip.numbers) != 1).any():
        raise ValueError(
            f"clip {clip.key}: a network of video wants every frame; give the stride to extract"
        )
    return encode_windows(backbone, window, clip.frames, chosen)


def _landmark_features(clip: ScannedClip) -> NDArray[np.float32]:
    """T 136, in sides of the picture from its middle."""
    if clip.landmarks is None:
        raise ValueError(f"clip {clip.key} has no landmarks")
    side = clip.frames.shape[-1]
    return (
        ((clip.landmarks + 0.5) / side - 0.5)
        .reshape(len(clip.landmarks), -1)
        .astype(np.float32)
    )


class _Rows:
    """Columns under construction; clips may label different action units, their union becomes
    the columns.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.features: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        self.labels: list[tuple[tuple[int, ...], NDArray[np.int8]]] = []
        self.frames: list[NDArray[np.int32]] = []
        self.fingerprints: list[list[int]] = []
        self.subjects: dict[str, int] = {}
        self.clip_subjects: list[int] = []
        self.clips: list[str] = []

    def add(
        self,
        clip: ScannedClip,
        labels: NDArray[np.int8],
        numbers: NDArray[np.int64],
        frames: torch.Tensor,
        features: Mapping[str, NDArray[np.float32]],
    ) -> None:
        for name, values in features.items():
            self.features[name].append(values)
        self.labels.append((clip.meta.action_units if labels.shape[1] else (), labels))
        self.frames.append(numbers.astype(np.int32))
        self.fingerprints.append(
            [xxhash.xxh3_64_intdigest(frame.contiguous().numpy().data) for frame in frames]
        )
        self.clip_subjects.append(
            self.subjects.setdefault(clip.meta.identity, len(self.subjects))
        )
        self.clips.append(clip.key)

    def tables(self) -> dict[str, FeatureTable]:
        units = tuple(sorted({unit for names, _ in self.labels for unit in names}))
        if not units:
            raise ValueError(
                "no labelled frame found: the corpus needs KEY.au.npy members with at least one "
                "value >= 0"
            )
        counts = [len(part) for part in self.frames]
        labels = np.full((sum(counts), len(units)), -1, np.int8)
        start = 0
        for names, values in self.labels:
            labels[start : start + len(values), [units.index(unit) for unit in names]] = values
            start += len(values)
        columns: dict[str, Any] = {
            "labels": labels,
            "action_units": units,
            "subject": np.repeat(np.array(self.clip_subjects, np.int32), counts),
            "subjects": tuple(self.subjects),
            "clip": np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            "clips": tuple(self.clips),
            "frame": np.concatenate(self.frames),
            "fingerprint": np.concatenate(
                [np.array(part, np.uint64) for part in self.fingerprints]
            ),
        }
        return {
            name: FeatureTable(features=np.concatenate(parts), **columns)
            for name, parts in self.features.items()
        }

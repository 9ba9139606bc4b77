"""A labelled corpus as a table of frozen features: what every probe learns from.

    corpus URL ──stream.scan──▶ clips of frames ──backbone, eval mode──▶ FeatureTable: one row per labelled frame

A row carries its label (-1 unknown), subject, clip, frame number and a fingerprint of its pixels, so that a split can be checked to share
neither a subject nor a single image between its parts.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import nn

from ausl_dist.clip import ClipMeta
from ausl_dist.evaluate.encode import encode_frames


@dataclass(frozen=True)
class FeatureTable:
    """N labelled frames. `labels` is intensity 0-5 or occurrence 0/1, as the corpus has it, and -1 where unknown."""

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
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self) if f.name not in ("action_units", "subjects", "clips")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns of unequal length: {lengths}")
        if self.labels.shape[1] != len(self.action_units):
            raise ValueError(f"{self.labels.shape[1]} label columns for {len(self.action_units)} action units")

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: NDArray[Any]) -> "FeatureTable":
        """The chosen rows (mask or indices); names of subjects and clips stay, so that indices keep their meaning."""
        columns = {name: getattr(self, name)[rows] for name in ("features", "labels", "subject", "clip", "frame", "fingerprint")}
        return FeatureTable(**columns, action_units=self.action_units, subjects=self.subjects, clips=self.clips)

    def of_subjects(self, names: Iterable[str]) -> "FeatureTable":
        wanted = set(names)
        return self.take(np.isin(self.subject, [index for index, name in enumerate(self.subjects) if name in wanted]))

    def present_subjects(self) -> tuple[str, ...]:
        """Subjects that have at least one row."""
        return tuple(self.subjects[index] for index in np.unique(self.subject))

    def only_units(self, units: Iterable[int]) -> "FeatureTable":
        """The same rows with these action units; ValueError where one is not labelled."""
        units = tuple(units)
        missing = set(units) - set(self.action_units)
        if missing:
            raise ValueError(f"no labels of AU {sorted(missing)}; labelled here: {list(self.action_units)}")
        columns = [self.action_units.index(unit) for unit in units]
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return FeatureTable(**{**values, "labels": self.labels[:, columns], "action_units": units})


@dataclass(frozen=True)
class LabelledClip:
    """One clip as the scan of a labelled corpus gives it."""

    key: str
    frames: torch.Tensor  # T C H W, normalised
    meta: ClipMeta
    labels: NDArray[np.int8]  # T K


def extract(backbone: nn.Module, clips: Iterable[LabelledClip], *, stride: int = 1) -> FeatureTable:
    """Features of every `stride`-th frame that has at least one known label, backbone in eval mode."""
    if stride < 1:
        raise ValueError(f"stride must be at least 1, not {stride}")
    rows = _Rows()
    for clip in clips:
        known = np.flatnonzero((clip.labels >= 0).any(1))
        chosen = known[known % stride == 0]
        if len(chosen):
            frames = clip.frames[torch.from_numpy(chosen)]
            rows.add(clip, chosen, frames, encode_frames(backbone, frames).numpy())
    return rows.table()


class _Rows:
    """Columns under construction; clips may label different action units, their union becomes the columns."""

    def __init__(self) -> None:
        self.features: list[NDArray[np.float32]] = []
        self.labels: list[tuple[tuple[int, ...], NDArray[np.int8]]] = []
        self.frames: list[NDArray[np.int32]] = []
        self.fingerprints: list[list[int]] = []
        self.subjects: dict[str, int] = {}
        self.clip_subjects: list[int] = []
        self.clips: list[str] = []

    def add(self, clip: LabelledClip, chosen: NDArray[np.integer], frames: torch.Tensor, features: NDArray[np.float32]) -> None:
        self.features.append(features)
        self.labels.append((clip.meta.action_units, clip.labels[chosen]))
        self.frames.append(chosen.astype(np.int32))
        self.fingerprints.append([xxhash.xxh3_64_intdigest(frame.contiguous().numpy().tobytes()) for frame in frames])
        self.clip_subjects.append(self.subjects.setdefault(clip.meta.identity, len(self.subjects)))
        self.clips.append(clip.key)

    def table(self) -> FeatureTable:
        if not self.features:
            raise ValueError("no labelled frame found: the corpus needs KEY.au.npy members with at least one value >= 0")
        units = tuple(sorted({unit for names, _ in self.labels for unit in names}))
        counts = [len(part) for part in self.features]
        labels = np.full((sum(counts), len(units)), -1, np.int8)
        start = 0
        for names, values in self.labels:
            labels[start : start + len(values), [units.index(unit) for unit in names]] = values
            start += len(values)
        return FeatureTable(
            features=np.concatenate(self.features),
            labels=labels,
            action_units=units,
            subject=np.repeat(np.array(self.clip_subjects, np.int32), counts),
            subjects=tuple(self.subjects),
            clip=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            clips=tuple(self.clips),
            frame=np.concatenate(self.frames),
            fingerprint=np.concatenate([np.array(part, np.uint64) for part in self.fingerprints]),
        )

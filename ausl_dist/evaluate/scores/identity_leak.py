"""How much a representation says of who it is: a linear probe that names the subject.

    feature table ──▶ each subject's clips in two halves ──▶ ridge on one-hot subjects, first half
        ──▶ share named rightly, second half

Features of action units need not know the person, and what they know of him can mislead a probe
on other people. Read it against chance and beside the scores of action units: a backbone that
says nothing leaks nothing.
"""

from dataclasses import dataclass

import numpy as np

from ausl_dist.evaluate.features.table import FeatureTable

PENALTY = 1e-2  # per frame, on standardised features


@dataclass(frozen=True)
class Leak:
    """Share of frames whose subject a linear probe names, and the share that guessing would."""

    accuracy: float
    chance: float


def identity_leak(table: FeatureTable) -> Leak:
    """Probe the table for its subjects.

    Raises ValueError unless two subjects have two clips each.
    """
    second_half = np.zeros(len(table), bool)
    usable = np.zeros(len(table), bool)
    for subject in np.unique(table.subject):
        own = table.subject == subject
        clips = np.unique(table.clip[own])
        if len(clips) > 1:
            usable |= own
            second_half |= own & np.isin(table.clip, clips[len(clips) // 2 :])
    subjects, target = np.unique(table.subject[usable], return_inverse=True)
    if len(subjects) < 2:
        raise ValueError("an identity probe needs at least two subjects with two clips each")
    features, test = table.features[usable].astype(np.float64), second_half[usable]
    mean, spread = features[~test].mean(0), features[~test].std(0) + 1e-6
    features = (features - mean) / spread
    gram = features[~test].T @ features[~test] / (~test).sum() + PENALTY * np.eye(
        features.shape[1]
    )
    one_hot = np.eye(len(subjects))[target]
    weight = np.linalg.solve(
        gram, features[~test].T @ (one_hot[~test] - one_hot[~test].mean(0)) / (~test).sum()
    )
    guess = (features[test] @ weight + one_hot[~test].mean(0)).argmax(1)
    return Leak(float((guess == target[test]).mean()), 1 / len(subjects))

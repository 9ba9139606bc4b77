"""The test fold as a box that opens once, and only for a predictor whose every decision is
already made.

    hold_out(table) ──▶ training table, Sealed(test table)
    fit and choose on the training table ──▶ Decided (settings, thresholds, everything looked at)
    sealed.open(decided) ──▶ the test table, once

Published evaluators choose the epoch or the threshold on the test fold without anybody
noticing. Here there is no way to the test labels but `open`; it refuses a second time, and it
refuses a predictor that has seen a test subject or a test image, whatever it was used for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.randomness import stable_hash

T = TypeVar("T")


class LeakError(ValueError):
    """Something of the test fold was looked at before the decisions were final, or after."""


@dataclass(frozen=True)
class Looked:
    """What has been looked at: subjects, and fingerprints of images."""

    subjects: frozenset[str] = frozenset()
    fingerprints: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    @classmethod
    def at(cls, *tables: FeatureTable) -> "Looked":
        return cls(
            frozenset(name for table in tables for name in table.present_subjects()),
            np.unique(np.concatenate([table.fingerprint for table in tables])),
        )

    def __or__(self, other: "Looked") -> "Looked":
        return Looked(
            self.subjects | other.subjects, np.union1d(self.fingerprints, other.fingerprints)
        )


@dataclass(frozen=True)
class Decided:
    """A predictor's final decisions, and all that they were made from (fitting, selection and
    thresholds alike).
    """

    looked: Looked
    decisions: Mapping[str, Any]


class Sealed(Generic[T]):
    """Holds the test fold until `open`."""

    def __init__(self, payload: T, looked: Looked) -> None:
        self.__payload: T | None = payload
        self._looked = looked
        self.subjects = tuple(sorted(looked.subjects))
        self.opened_for: Decided | None = None

    def open(self, decided: Decided) -> T:
        """The test fold.

        Raises LeakError when it was opened before, or shares a subject or an image with what
        `decided` looked at.
        """
        payload = self.__payload
        if payload is None:
            raise LeakError(
                "the test fold has been read already; deciding again after seeing it would be "
                "tuning on it. "
                "Score all variants from training subjects, or start a new evaluation with the "
                "final settings"
            )
        subjects = decided.looked.subjects & self._looked.subjects
        if subjects:
            raise LeakError(
                f"test subjects were used before the test: {', '.join(sorted(subjects)[:8])}"
            )
        images = np.intersect1d(decided.looked.fingerprints, self._looked.fingerprints)
        if len(images):
            raise LeakError(
                f"{len(images)} test images were also used before the test, "
                "under other subjects' names: the splits overlap"
            )
        self.__payload = None
        self.opened_for = decided
        return payload


def share_of_subjects(
    subjects: Sequence[str], share: float, *words: str | int
) -> tuple[str, ...]:
    """A share of the subjects, at least one and not all, in an order given by the hash of their
    names.

    Adding or removing other data does not move a subject except at the boundary; ValueError for
    fewer than two subjects.
    """
    if len(subjects) < 2:
        raise ValueError(
            f"{len(subjects)} subject(s) cannot be split into training and test; "
            "the corpus needs at least two identities"
        )
    if not 0 < share < 1:
        raise ValueError(
            f"the share of subjects held out must lie between 0 and 1, not {share}"
        )
    ranked = sorted(subjects, key=lambda name: (stable_hash("split", *words, name), name))
    return tuple(sorted(ranked[: min(max(round(share * len(ranked)), 1), len(ranked) - 1)]))


def hold_out(
    table: FeatureTable, test_subjects: Sequence[str]
) -> tuple[FeatureTable, Sealed[FeatureTable]]:
    """Split a table by subject into the training table and the sealed test fold."""
    present = set(table.present_subjects())
    wanted = set(test_subjects) & present
    if not wanted or wanted == present:
        raise ValueError(
            f"the split leaves nothing to {'test on' if not wanted else 'train on'}: "
            f"{len(present)} subjects with labels here"
        )
    test = table.of_subjects(wanted)
    return table.of_subjects(present - wanted), Sealed(test, Looked.at(test))


def deal_subjects(subjects: Sequence[str], folds: int, *words: str | int) -> dict[str, int]:
    """Fold number of each subject: dealt in the order of the hash of their names; fewer folds
    where there are fewer subjects.
    """
    if len(subjects) < 2:
        raise ValueError(
            f"{len(subjects)} subject(s) cannot be dealt to folds: at least two identities are "
            "needed"
        )
    ranked = sorted(subjects, key=lambda name: (stable_hash("fold", *words, name), name))
    return {name: position % min(folds, len(ranked)) for position, name in enumerate(ranked)}


def inner_folds(table: FeatureTable, folds: int, *words: str | int) -> NDArray[np.int32]:
    """Fold number of each row for selection among training subjects: whole subjects."""
    fold_of = deal_subjects(table.present_subjects(), folds, *words)
    lookup = np.array([fold_of.get(name, -1) for name in table.subjects], np.int32)
    chosen: NDArray[np.int32] = lookup[table.subject]
    return chosen

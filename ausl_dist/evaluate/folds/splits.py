"""The published subject-exclusive splits, set by set, and the translation of fold numbers
between code bases.

All code bases use the same three sets of subjects of BP4D and DISFA, but number the folds
differently; so folds are named P1, P2, P3 here, and a result says which set it was tested on.
Where nothing is published, subjects are dealt to folds by the hash of their names.
"""

from collections.abc import Iterable

from ausl_dist.evaluate.folds.sealed import deal_subjects

Fold = tuple[str, tuple[str, ...]]  # name, test subjects


def _numbers(text: str, letters: str) -> tuple[str, ...]:
    """'1 2 8' with letter 'F' is F001 F002 F008."""
    return tuple(f"{letters}{int(number):03d}" for number in text.split())


BP4D: dict[str, tuple[str, ...]] = {
    "P1": _numbers("1 2 8 9 10 16 18 23", "F") + _numbers("1 4 7 8 12 14", "M"),
    "P2": _numbers("3 5 11 13 20 22", "F") + _numbers("2 5 10 11 13 16 17 18", "M"),
    "P3": _numbers("4 6 7 12 14 15 17 19 21", "F") + _numbers("3 6 9 15", "M"),
}
DISFA: dict[str, tuple[str, ...]] = {
    "P1": _numbers("1 2 9 10 16 26 27 30 32", "SN"),
    "P2": _numbers("6 11 12 13 18 21 24 28 31", "SN"),
    "P3": _numbers("3 4 5 7 8 17 23 25 29", "SN"),
}
BP4D_PLUS: dict[str, tuple[str, ...]] = {
    "F1": _numbers("72 76 53 26 44 66 57 61 71 79 20 14 4 13 33 38 19 39 46 47", "F")
    + _numbers("40 15 29 3 50 33 25 17 42 4 36 26 48 51 20", "M"),
    "F2": _numbers("74 12 34 56 75 24 16 60 77 28 32 30 31 22 65", "F")
    + _numbers("1 9 38 47 45 34 22 11 44 46 5 28 55 19 37 43 23 18 16 52", "M"),
    "F3": _numbers("29 54 64 45 9 40 8 63 1 80 62 35 52 27 43 42 50 78 58 17 21 69 2 68", "F")
    + _numbers("41 56 24 10 54 57 35 30 27 31 8", "M"),
    "F4": _numbers("37 10 23 25 73 48 41 51 11 5 18 70 6 67 59 3 7 49 81 55 82 15 36", "F")
    + _numbers("58 7 2 32 21 13 49 14 39 6 53 12", "M"),
}
# FERA 2015: even numbers
BP4D_INTENSITY_TEST = _numbers("2 4 6 8 10 12 14 16 18 20 22", "F") + _numbers(
    "2 4 6 8 10 12 14 16 18", "M"
)
DISFA_INTENSITY_TEST = _numbers("2 3 4 6 7 12 13 16 23", "SN")

# Test set of each fold as other code bases number it.
TRANSLATION: dict[str, dict[str, str]] = {
    "ME-GraphAU": {"1": "P3", "2": "P2", "3": "P1"},
    "AU-Net": {"1": "P3", "2": "P2", "3": "P1"},
    "FG-Net": {"0": "P1", "1": "P2", "2": "P3"},
    "LibreFace": {"2": "P1", "1": "P2", "0": "P3"},
    "FMAE": {"1": "P1", "2": "P2", "3": "P3"},
    "AUNets": {"1": "P1", "2": "P2", "3": "P3"},
}

# data set -> name of its subjects, splits; the first is usual
_PUBLISHED: dict[str, tuple[str, dict[str, dict[str, tuple[str, ...]]]]] = {
    "bp4d": ("bp4d", {"3-fold": BP4D}),
    "bp4d_plus": ("bp4d_plus", {"4-fold": BP4D_PLUS}),
    "disfa": ("disfa", {"3-fold": DISFA, "ARL": {"ARL": DISFA_INTENSITY_TEST}}),
    "bp4d_intensity": ("bp4d", {"FERA15": {"FERA15": BP4D_INTENSITY_TEST}}),
}


def folds(
    data_set: str,
    subjects: Iterable[str],
    *,
    split: str = "usual",
    count: int = 3,
    seed: int = 0,
) -> list[Fold]:
    """The folds of a data set as test subjects among those present, by a published split where
    there is one.

    `split` names one of several published ones, as ARL's for the intensities of DISFA: 9 test
    subjects, the other 18 train. ValueError when it is not known, when a subject present is in
    no fold of several, or when a fold has nobody.
    """
    present = sorted(subjects)
    prefix, splits = _PUBLISHED.get(data_set, (data_set, {}))
    if split not in ("usual", *splits):
        raise ValueError(
            f"split={split!r} of {data_set} is not known; known: {', '.join(('usual', *splits))}"
        )
    if not splits:
        dealt = deal_subjects(present, count, seed)
        return [
            (f"H{number + 1}", tuple(name for name in present if dealt[name] == number))
            for number in range(max(dealt.values()) + 1)
        ]
    table = next(iter(splits.values())) if split == "usual" else splits[split]
    result = [
        (fold, tuple(name for name in present if name.removeprefix(f"{prefix}:") in members))
        for fold, members in table.items()
    ]
    if len(table) > 1:
        strangers = set(present) - {name for _, members in result for name in members}
        if strangers:
            raise ValueError(
                f"subjects {sorted(strangers)[:6]} are in no fold of {data_set}: "
                f"run python -m tools.verify_labels {data_set} DIR"
            )
    empty = [fold for fold, members in result if not members]
    if empty:
        raise ValueError(
            f"no subject of fold {', '.join(empty)} of {data_set} is present: "
            "the copy is incomplete"
        )
    return result


def translate(code_base: str, fold: str) -> str:
    """The set that another code base tests on in its fold; ValueError that lists what is known."""
    try:
        return TRANSLATION[code_base][fold]
    except KeyError as error:
        known = "; ".join(f"{name} {'/'.join(table)}" for name, table in TRANSLATION.items())
        raise ValueError(
            f"fold {fold!r} of {code_base!r} is not known; known: {known}"
        ) from error

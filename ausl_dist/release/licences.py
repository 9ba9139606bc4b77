"""What a backbone owes to whom: every source of its training, with its licence; and whether a
licence that lets everybody do everything may stand on it.

    statements of the corpora ──▶ videos by licence ─┐
    models that found faces and landmarks ──▶ teachers ├─▶ Source, ... ──▶ card
    weights that training began from ────────────────┘          └──▶ check_licence

A permissive licence is refused where a source has another, or none is recorded: what is not
written down is not allowed. Whether the licence of data binds weights is for a court to say; who
wants to release all the same says so, by `--licence other`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ausl_dist.faces.models import models_id
from ausl_dist.shards.clip import RENDERED

# SPDX identifiers, in small letters, of licences that ask for no more than to be named
PERMISSIVE = {
    *("0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "mit", "mit-0", "zlib"),
    *("cc-by-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
    *("cc0-1.0", "pddl-1.0", "unlicense"),
}
# usual spellings of them
SPELLINGS = {
    "apache": "apache-2.0",
    "apache-2": "apache-2.0",
    "bsd": "bsd-2-clause",
    "bsd-2": "bsd-2-clause",
    "bsd-3": "bsd-3-clause",
    "cc0": "cc0-1.0",
    "public-domain": "cc0-1.0",
}


@dataclass(frozen=True)
class Source:
    """One thing that went into the weights."""

    what: str  # as a card names it: "28 clips of main"
    licence: str | None  # as its owner writes it; None where nobody recorded one

    @property
    def is_permissive(self) -> bool:
        parts = (self.licence or "").split(";")  # several, each of which binds
        return all(spdx(part) in PERMISSIVE for part in parts)


def spdx(licence: str) -> str:
    """A licence as SPDX spells it, in small letters: "CC BY 4.0 (Intel)" is cc-by-4.0.

    What stands in brackets is a remark.
    """
    bare = re.sub(r"\(.*?\)", "", licence).strip().lower()
    bare = re.sub(r"\blicen[cs]e\b|\bversion\b|,", " ", bare)
    spelt = re.sub(r"[\s_]+", "-", bare.strip())
    return SPELLINGS.get(spelt, spelt)


def sources_of(
    corpora: Mapping[str, Mapping[str, Any]], first_weights: str | None
) -> list[Source]:
    """Every source of a run: `corpora` are the statements by name, `first_weights` the file that
    its backbone began from, if any.
    """
    found = []
    for name, statement in corpora.items():
        licences = statement.get("licences") or {}
        counts = {str(licence): int(clips) for licence, clips in licences.items()}
        found += [
            Source(f"{clips} clips of {name}", licence if licence.strip() else None)
            for licence, clips in counts.items()
        ]
        without = int(statement.get("clips") or 0) - sum(counts.values())
        if without > 0 or not counts:
            found.append(Source(f"{without} clips of {name}", None))
        found += _teachers(name, str(statement.get("detector") or "unknown"))
    if first_weights is not None:
        found.append(Source(f"the first weights, {first_weights}", None))
    return found


def _teachers(corpus: str, detector: str) -> list[Source]:
    """The models whose landmarks a corpus stores."""
    if detector == RENDERED:
        return []
    if detector == models_id():
        return [
            Source(f"the face detector of {corpus}, YuNet", "MIT"),
            Source(f"the landmarks of {corpus}, MediaPipe Face Landmarker", "Apache-2.0"),
        ]
    return [Source(f"the landmarks of {corpus}, by {detector}", None)]


def check_licence(licence: str, sources: Iterable[Source]) -> None:
    """Raise ValueError where weights of these sources may not be released under a permissive
    `licence`; any other is the releaser's own word.
    """
    if spdx(licence) not in PERMISSIVE:
        return
    others = [source for source in sources if not source.is_permissive]
    if others:
        named = ", ".join(
            f"{source.what}: {source.licence or 'no licence recorded'}" for source in others[:5]
        )
        more = f", and {len(others) - 5} more" if len(others) > 5 else ""
        raise ValueError(
            f"--licence {licence} says that everybody may use these weights, but not all that "
            f"went into them is under such a licence ({named}{more}): give --licence other, or write "
            "licences as SPDX does (CC-BY-4.0) when the corpus is built"
        )

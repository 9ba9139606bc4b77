"""Which source a name means that somebody else wrote: by its path, never by its last part alone
where that could be another's.

    F001/T1.csv, F001/T1, F001/T1.mp4, /data/F001/T1.mp4, T1 ──▶ the source F001/T1.mp4

A name means a source when it is the source's path, or when one path is the end of the other.
Folders that Aff-Wild2 puts around its labels and pictures count for nothing. A name that means
two sources means none: `Names.find` gives both, and the caller refuses it.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from ausl_dist.corpus.suffixes import VIDEO_SUFFIXES

# Train_Set/video5_left.txt labels cropped_aligned/video5_left.
_AROUND_LABELS = re.compile(r"train_set|validation_set|test_set|au_set", re.IGNORECASE)
_AROUND_VIDEOS = re.compile(r"cropped|cropped_aligned|batch\d", re.IGNORECASE)


class Names:
    """The sources of a build, to be found by what others call them."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.sources = sorted(set(sources))
        self._as_written = {source: [source] for source in self.sources}
        self._whole: dict[str, list[str]] = {}  # by path without suffix
        self._paths: dict[str, list[str]] = {}  # the same, without what stands around videos
        self._tails: dict[str, list[str]] = {}  # by every end of that
        for source in self.sources:
            plain = _plain(source)
            self._whole.setdefault(plain, []).append(source)
            parts = _parts(plain, _AROUND_VIDEOS)
            self._paths.setdefault("/".join(parts), []).append(source)
            for tail in _tails(parts):
                self._tails.setdefault(tail, []).append(source)

    def find(self, name: str) -> Sequence[str]:
        """The sources that `name` means: one, none, or several where it cannot be told."""
        path = name.replace("\\", "/")
        plain = _plain(path)
        for known, key in ((self._as_written, path), (self._whole, plain)):
            if key in known:
                return known[key]
        parts = _parts(plain, _AROUND_LABELS)
        found = set(self._tails.get("/".join(parts), ()))
        for tail in _tails(parts):
            found.update(self._paths.get(tail, ()))
        return sorted(found)


def _plain(path: str) -> str:
    """A path without './', without the suffix of a video, and with letters written in one way:
    macOS writes ä as two signs.
    """
    path = unicodedata.normalize("NFC", path)
    path = "/".join(part for part in path.split("/") if part not in ("", "."))
    stem, dot, suffix = path.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in VIDEO_SUFFIXES else path


def _parts(path: str, around: re.Pattern[str]) -> list[str]:
    *folders, name = path.split("/")
    return [*(folder for folder in folders if not around.fullmatch(folder)), name]


def _tails(parts: Sequence[str]) -> list[str]:
    return ["/".join(parts[start:]) for start in range(len(parts))]

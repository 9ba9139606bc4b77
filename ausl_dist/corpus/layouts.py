"""Where a data set's file names say who is seen and which video it was cut from: one rule for
each published layout.

A rule is a regular expression on the path below the input folder, '/' between parts, with the
groups

    identity   who is seen; then the source shows one person, and only the largest face of each
               frame is kept
    source     what the source is called in the corpus (take-down works by its beginning); the whole
               path where absent
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How one data set names its files, and under what terms it is given out."""

    pattern: re.Pattern[str]
    example: str
    licence: str = "unknown"

    def read(self, path: str) -> tuple[str | None, str]:
        """(identity or None, source name) of a path; ValueError when the rule does not fit."""
        match = self.pattern.search(path)
        if match is None:
            raise ValueError(
                f"{path} does not fit the layout; a file of it looks like {self.example}"
            )
        groups = match.groupdict()
        return groups.get("identity"), groups.get("source") or path


LAYOUTS = {
    "plain": Layout(re.compile(r"(?P<source>.*)", re.DOTALL), "any/path.mp4"),
    # Video of VoxCeleb1 and 2 by identity, YouTube id, utterance; the face tracks of VoxCeleb1
    # as folders of images.
    "voxceleb1": Layout(
        re.compile(
            r"(?P<source>(?P<identity>id\d{5}|[^/]+(?=/1\.6/))/(?:1\.6/)?[^/]+(?:/\d+\.\w+)?)$"
        ),
        "id10001/1zcIwhmdeo4/00001.mp4 or Aamir_Khan/1.6/5ablueV_1tw",
        "VoxCeleb: metadata CC BY 4.0, video by its YouTube uploaders",
    ),
    "voxceleb2": Layout(
        re.compile(r"(?P<source>(?P<identity>id\d{5})/[^/]+/\d+\.\w+)$"),
        "id00012/21Uxsk56VDQ/00001.mp4",
        "VoxCeleb: metadata CC BY 4.0, video by its YouTube uploaders",
    ),
    # 35,666 clips of 15,653 people without a list of who is where: clips of one video are taken
    # for one person, which keeps splits apart.
    "celebv-hq": Layout(
        re.compile(r"(?P<source>(?P<identity>[\w-]{11})_\d+(?:_\d+)*\.\w+)$"),
        "M2Ohb0FAaJU_1.mp4",
        "CelebV-HQ: non-commercial research",
    ),
    # Two people in one video are given as NAME_left and NAME_right, as crops; raw videos name
    # nobody.
    "aff-wild2": Layout(
        re.compile(r"(?:(?:^|/)cropped(?:_aligned)?/(?P<identity>[^/]+)|[^/]+)$"),
        "batch1/video5.mp4 or cropped_aligned/video5_left",
        "Aff-Wild2: research only, by agreement",
    ),
}


def layout(name: str) -> Layout:
    """A preset by name, or a rule of the user's own: a regular expression with a group
    `identity`.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    if "(?P<" not in name:
        raise ValueError(
            f"layout {name!r} is not known: take one of {', '.join(LAYOUTS)}, "
            "or a rule such as '(?P<identity>[^/]+)/'"
        )
    try:
        return Layout(re.compile(name), name)
    except re.error as error:
        raise ValueError(f"layout {name!r} is no regular expression ({error})") from error

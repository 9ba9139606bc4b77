"""One page of what the demo did: how the loss fell, what the features are worth beside pixels and
random weights, and frames of people whom no step has seen, with true and predicted action units.

    RUN/metrics.jsonl, RUN/evaluation/rendered/{report.json, predictions-pretrained.csv}, the corpus
        ──▶ RUN/demo.html, one file
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ausl_dist.evaluate.released import PRETRAINED
from ausl_dist.files import read_json, write_atomically
from ausl_dist.observe.history import read_metrics
from ausl_dist.pages.charts import Series, lines
from ausl_dist.pages.jpeg import jpeg_base64
from ausl_dist.pages.page import (
    charts_grid,
    note,
    page,
    picture,
    pictures_row,
    section,
    table,
    tiles_row,
)
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.stream.scan import scan

PICTURE_SIZE = 160  # pixels
PICTURES = 7  # of one clip
UNITS = 4  # drawn below: those that move most in the clip
CLIPS = 2
POINTS = 400  # of a curve


@dataclass(frozen=True)
class Track:
    """What one clip's frames show and what was said of them."""

    clip: str
    numbers: NDArray[np.int64]  # T, frame numbers
    units: tuple[str, ...]  # K names
    predicted: NDArray[np.float64]  # T K
    true: NDArray[np.float64]  # T K

    def strongest(self, count: int) -> "Track":
        """Only the units that move most."""
        order = np.argsort(-self.true.std(0))[:count]
        units = tuple(self.units[column] for column in order)
        return Track(
            self.clip, self.numbers, units, self.predicted[:, order], self.true[:, order]
        )


def write_page(run: Path, corpus: str) -> Path:
    """The page of a finished run that was judged on the corpus at a URL; returns its path."""
    folder = run / "evaluation" / "rendered"
    report = read_json(folder / "report.json")
    tracks = read_tracks(folder / f"predictions-{PRETRAINED}.csv")
    moving = sorted(tracks, key=lambda track: -float(track.true.std(0).sum()))[:CLIPS]
    parts = [
        "<h1>A backbone that has seen faces, and no label</h1>",
        tiles_row([(row["name"], _score(row, report)) for row in report["rows"]]),
        note(
            f"Intensity of action units of other people, {report['main_score'].upper()}(3,1), by a "
            "linear probe on frozen features; the tiles are rows of the table below."
        ),
        section("How the loss fell", _curves(run)),
        section("Unit by unit", _table(report)),
        section("People whom no step has seen", _strips(moving, corpus)),
    ]
    target = run / "demo.html"
    write_atomically(target, page("Demo", "".join(parts)))
    return target


def read_tracks(predictions: Path) -> list[Track]:
    """The clips of a table of predictions, frames in order."""
    with predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    units = tuple(name for name in rows[0] if name.startswith("AU") and "_" not in name)
    clips: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        clips.setdefault(row["clip"], []).append(row)
    return [
        Track(
            clip,
            np.array([int(row["frame"]) for row in frames]),
            units,
            np.array([[float(row[unit]) for unit in units] for row in frames]),
            np.array([[float(row[f"{unit}_label"]) for unit in units] for row in frames]),
        )
        for clip, frames in clips.items()
    ]


def _score(row: dict[str, Any], report: dict[str, Any]) -> str:
    return f"{row['pooled'][report['main_score']]['mean']:.3f}"


def _curves(run: Path) -> str:
    history = read_metrics(run, POINTS)
    steps = [float(line["step"]) for line in history]
    names = [name for name in history[-1].get("logs", {}) if name.endswith("/loss")]
    series = [
        Series(name.removesuffix("/loss"), steps, [line["logs"].get(name) for line in history])
        for name in names
    ]
    return charts_grid(lines([one], label=one.name, x_label="step") for one in series)


def _table(report: dict[str, Any]) -> str:
    score = report["main_score"]
    titles = ["", "mean", *(f"AU{unit}" for unit in report["action_units"])]
    rows = [
        [
            row["name"],
            _score(row, report),
            *("" if v is None else f"{v:.2f}" for v in row["pooled"][score]["per_unit"]),
        ]
        for row in report["rows"]
    ]
    return table(titles, rows, numbers=True)


def _strips(tracks: list[Track], corpus: str) -> str:
    wanted = {track.clip: track for track in tracks}
    drawn = []
    for clip, pictures in _pictures(corpus, wanted):
        track = wanted[clip].strongest(UNITS)
        strip = pictures_row(picture(jpeg, f"frame {number}") for number, jpeg in pictures)
        curves = [
            lines(
                [
                    Series("true", track.numbers.tolist(), track.true[:, column].tolist()),
                    Series(
                        "predicted", track.numbers.tolist(), track.predicted[:, column].tolist()
                    ),
                ],
                label=unit,
                x_label="frame",
            )
            for column, unit in enumerate(track.units)
        ]
        drawn.append(f"<h3>{escape(clip)}</h3>{strip}{charts_grid(curves)}")
    return "".join(drawn)


def _pictures(
    corpus: str, tracks: Mapping[str, Track]
) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Some frames of each clip: its key, and frame numbers with JPEGs; reads no further than the
    last one that is wanted.
    """
    left = set(tracks)
    mean, std = np.array(PIXEL_MEAN), np.array(PIXEL_STD)
    for clip in scan(corpus, image_size=PICTURE_SIZE):
        if clip.key not in left:
            continue
        numbers = tracks[clip.key].numbers
        chosen = numbers[np.linspace(0, len(numbers) - 1, PICTURES).round().astype(int)]
        frames = clip.frames[chosen.tolist()].permute(0, 2, 3, 1).numpy() * std + mean
        pixels = (frames.clip(0, 1) * 255).round().astype(np.uint8)
        yield (
            clip.key,
            [(int(n), jpeg_base64(p)) for n, p in zip(chosen, pixels, strict=True)],
        )
        left.discard(clip.key)
        if not left:
            return

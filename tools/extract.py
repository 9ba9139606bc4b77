"""Frozen features of every face in videos, with a released backbone, and action-unit scores where it has a head.

python tools/extract.py VIDEO ... --backbone BUNDLE --out features.csv
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from ausl_dist import command
from ausl_dist.release.load import load_backbone
from ausl_dist.release.tables import TableWriter

REPORT_SECONDS = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="video files, pictures, or folders of numbered frames")
    parser.add_argument("--backbone", required=True, metavar="BUNDLE", help="a bundle folder, or hf-hub:ORG/NAME")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="features.csv, or features.parquet (needs pyarrow)")
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder of the face detection models (see tools/fetch_models.py)")
    parser.add_argument("--everyone", action="store_true", help="all faces of a frame instead of the largest")
    arguments = parser.parse_args()
    backbone = load_backbone(arguments.backbone)
    problems = 0
    with TableWriter(arguments.out, backbone.dim, backbone.score_columns) as table:
        for number, video in enumerate(arguments.videos, 1):
            faces = backbone.preprocess(video, models=arguments.models, everyone=arguments.everyone)
            progress = _Progress(f"[{number}/{len(arguments.videos)}] {video}")
            try:
                for rows, features in backbone.iterate(faces):
                    scores = backbone.action_units(features)
                    table.write(str(video), rows, features if scores is None else torch.cat([scores.values, features], dim=1))
                    progress.update(faces.frames_read)
            except ValueError as error:  # one unreadable video does not cost the others
                print(f"\nskipped: {error}", file=sys.stderr)
                problems += 1
            progress.finish(faces.frames_read)
    scored = f" and {len(backbone.score_columns)} action units" if backbone.head is not None else ""
    print(f"{table.rows} rows of {backbone.dim} features{scored} in {arguments.out}" + (f"; {problems} videos skipped" if problems else ""))
    return 1 if problems else 0


class _Progress:
    """Frames and rate: one line that rewrites itself on a terminal, a line every few seconds in a log."""

    def __init__(self, label: str) -> None:
        self._label, self._start, self._last = label, time.monotonic(), 0.0
        self._interval = 0.2 if sys.stderr.isatty() else REPORT_SECONDS

    def update(self, frames: int) -> None:
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            self._show(frames, "\r" if sys.stderr.isatty() else "\n")

    def finish(self, frames: int) -> None:
        self._show(frames, "\n")

    def _show(self, frames: int, end: str) -> None:
        rate = frames / max(time.monotonic() - self._start, 1e-6)
        print(f"{self._label}: {frames} frames, {rate:.3g} frames/s", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command.run(main)

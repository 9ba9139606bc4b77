"""Frozen features of every face in videos, with a released backbone, and action-unit scores
where it has a head.

    python -m tools.extract VIDEO ... --backbone BUNDLE --out features.csv
python -m tools.extract VIDEO --backbone BUNDLE --overlay drawn.mp4
"""

import argparse
import sys
from pathlib import Path

import torch

from ausl_dist import command
from ausl_dist.release.load import load_backbone
from ausl_dist.release.overlay import Overlay
from ausl_dist.release.progress import expected_frames, frames_shown
from ausl_dist.release.tables import TableWriter, check_table


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.overlay is not None:
        return _overlay(arguments)
    if arguments.out is None:
        raise ValueError("give --out FILE for a table, or --overlay FILE for a video")
    return _table(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "videos",
        type=Path,
        nargs="+",
        metavar="VIDEO",
        help="video files, pictures, or folders of numbered frames",
    )
    parser.add_argument(
        "--backbone",
        required=True,
        metavar="BUNDLE",
        help="a bundle folder, or hf-hub:ORG/NAME",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="features.csv, or features.parquet (needs pyarrow)",
    )
    parser.add_argument(
        "--overlay",
        type=Path,
        metavar="FILE",
        help="of one VIDEO: write it as .mp4 with landmarks, crop and action units drawn on it",
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="folder of the face detection models (see python -m tools.fetch_models)",
    )
    parser.add_argument(
        "--everyone", action="store_true", help="all faces of a frame instead of the largest"
    )
    return parser


def _table(arguments: argparse.Namespace) -> int:
    check_table(arguments.out)
    missing = [str(video) for video in arguments.videos if not video.exists()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(arguments.videos)} videos are not there: "
            f"{', '.join(missing[:5])}"
        )
    backbone = load_backbone(arguments.backbone)
    problems = 0
    with TableWriter(arguments.out, backbone.dim, backbone.score_columns) as table:
        for number, video in enumerate(arguments.videos, 1):
            faces = backbone.preprocess(
                video, models=arguments.models, everyone=arguments.everyone
            )
            try:
                with frames_shown(
                    f"[{number}/{len(arguments.videos)}] {video}",
                    expected_frames(video, faces.fps),
                ) as show:
                    for part in backbone.iterate(faces):
                        values = (
                            part.features
                            if part.scores is None
                            else torch.cat([part.scores, part.features], dim=1)
                        )
                        table.write(str(video), part.rows, values)
                        show(faces.frames_read)
                    show(faces.frames_read)
            except ValueError as error:  # one unreadable video does not cost the others
                print(f"skipped: {error}", file=sys.stderr)
                problems += 1
    scored = (
        f" and {len(backbone.score_columns)} action units" if backbone.head is not None else ""
    )
    print(
        f"{table.rows} rows of {backbone.dim} features{scored} in {arguments.out}"
        + (f"; {problems} videos skipped" if problems else "")
    )
    return 1 if problems else 0


def _overlay(arguments: argparse.Namespace) -> int:
    if len(arguments.videos) != 1 or arguments.out is not None:
        raise ValueError("--overlay draws on one VIDEO and writes no table: leave out --out")
    if arguments.overlay.suffix != ".mp4":
        raise ValueError(f"the overlay is written as .mp4; name it so, not {arguments.overlay}")
    (video,) = arguments.videos
    if arguments.overlay.exists() and video.exists() and arguments.overlay.samefile(video):
        raise ValueError(f"{video} would be overwritten: give --overlay another name")
    backbone = load_backbone(arguments.backbone)
    faces = backbone.preprocess(video, models=arguments.models, everyone=arguments.everyone)
    overlay = Overlay(faces, backbone)
    with frames_shown(str(video), expected_frames(video, faces.fps)) as show:
        for part in backbone.iterate(overlay):
            overlay.add(part)
            show(faces.frames_read)
    print(f"{overlay.write(arguments.overlay)} frames in {arguments.overlay}")
    return 0


if __name__ == "__main__":
    command.run(main)

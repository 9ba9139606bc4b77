"""Frozen features of every face in videos, with a released backbone, and action-unit scores where
it has a head.

    python -m tools.extract VIDEO ... --backbone BUNDLE --out features.csv
"""

import argparse
import sys
from pathlib import Path

import torch

from ausl_dist import command
from ausl_dist.release.load import load_backbone
from ausl_dist.release.progress import expected_frames, frames_shown
from ausl_dist.release.tables import TableWriter


def main() -> int:
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
        "--backbone", required=True, metavar="BUNDLE", help="a bundle folder, or hf-hub:ORG/NAME"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="features.csv, or features.parquet (needs pyarrow)",
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
    arguments = parser.parse_args()
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
            faces = backbone.preprocess(video, models=arguments.models, everyone=arguments.everyone)
            try:
                with frames_shown(
                    f"[{number}/{len(arguments.videos)}] {video}", expected_frames(video, faces.fps)
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
    scored = f" and {len(backbone.score_columns)} action units" if backbone.head is not None else ""
    print(
        f"{table.rows} rows of {backbone.dim} features{scored} in {arguments.out}"
        + (f"; {problems} videos skipped" if problems else "")
    )
    return 1 if problems else 0


if __name__ == "__main__":
    command.run(main)

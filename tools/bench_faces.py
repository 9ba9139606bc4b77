"""What each objective learns from real faces, judged on other people by a model that nobody here
trained.

    python -m tools.bench_faces --work DIR --train CORPUS --heldout CORPUS --models MODELS
        [--steps 300 --seeds 3 --cases random,joint --rendered DIR]
    python -m tools.bench_faces --work DIR --heldout CORPUS --models MODELS --rendered DIR

Both corpora are made by tools.build_corpus, of videos of different people (its --table says who
is who). Nobody has coded them: the labels of the second are MediaPipe's blendshapes, read as
action units (faces/blendshapes.py), in five steps up to a unit's 99th percentile. A score is
agreement with that model, on units it ever reports; the landmarks' row, from the same family of
models, is the bound. `--rendered` names a folder of tools.bench_objectives, whose backbones have
seen rendered people alone, and are judged beside; without --train they alone are, beside random
weights, and every real person may be one of the heldout.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

# launch/ is imported from the checkout
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from ausl_dist import command
from ausl_dist.batch import View
from ausl_dist.faces.blendshapes import UNITS, Blendshapes, unit_scores
from ausl_dist.faces.detect import Face, Landmarker
from ausl_dist.progress import shown
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.shards.index import Index
from ausl_dist.stream.scan import ScannedClip, scan
from tools.objective_bench.cases import CROP, JOINT, RANDOM, SINGLE, settings_of, start
from tools.objective_bench.learn import pretrain, table

TEACHER_SIZE = 256  # pixels of the crops that the teacher sees
FOREHEAD = 0.3  # of the landmarks' height: what a mesh has above the brows
LEAST = 0.05  # a unit whose 99th percentile is below this is one the teacher does not report
LEVELS = 5
CASES = [RANDOM, *(name for name in SINGLE if name != "single_image_flow_stored"), JOINT]


def main() -> int:
    arguments = _parser().parse_intermixed_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if not (arguments.train or arguments.rendered):
        raise ValueError("nothing to judge: give --train CORPUS, or --rendered DIR, or both")
    settings = settings_of(
        arguments.train or arguments.heldout,
        steps=arguments.steps,
        size=arguments.size,
        backbone=None,
        words=arguments.settings,
    )
    device = start(settings)
    taught = teach(arguments.heldout, arguments.models)
    cases = arguments.cases.split(",") if arguments.cases else CASES
    here = cases if arguments.train else [RANDOM]  # the others are trained elsewhere
    for seed in range(arguments.seeds):
        for case in here:
            pretrain(case, replace(settings, seed=seed), arguments.work, device)
    rows = {case: (case, arguments.work) for case in here}
    if arguments.rendered:
        trained = [case for case in cases if case != RANDOM]
        rows |= {f"{case}, rendered people": (case, arguments.rendered) for case in trained}
    clips = scan(arguments.heldout, image_size=arguments.size, view=View(crop=CROP))
    table(settings, rows, arguments.seeds, _labelled(clips, taught), device)
    return 0


def teach(corpus: str, models: Path | None) -> dict[str, NDArray[np.float32]]:
    """The teacher's score of each of UNITS, T 20, in every frame of every clip; NaN where it finds
    no face.
    """
    landmarker, blendshapes = Landmarker(models), Blendshapes(models)
    clips = scan(corpus, image_size=TEACHER_SIZE, view=View(centre=1.0, crop=(1.0, 1.0)))
    mean, std = np.array(PIXEL_MEAN), np.array(PIXEL_STD)
    found = {}
    for clip in shown(clips, "teacher, clips", Index.load(corpus).num_clips):
        if clip.landmarks is None:
            raise ValueError(f"clip {clip.key} has no landmarks: build the corpus with them")
        pictures = clip.frames.permute(0, 2, 3, 1).numpy() * std + mean
        pixels = (pictures.clip(0, 1) * 255).round().astype(np.uint8)
        found[clip.key] = np.stack(
            [
                _scores(landmarker, blendshapes, picture, points)
                for picture, points in zip(pixels, clip.landmarks, strict=True)
            ]
        )
    return found


def _scores(
    landmarker: Landmarker,
    blendshapes: Blendshapes,
    picture: NDArray[np.uint8],
    points: NDArray[np.float32],
) -> NDArray[np.float32]:
    (left, top), (right, bottom) = points.min(0), points.max(0)
    top -= FOREHEAD * (bottom - top)
    extent = (float(left), float(top), float(right), float(bottom))
    face = landmarker.follow(picture, Face(points, 1.0, 0.0, 0.0, extent))
    if face.mesh is None or face.presence < 0.5:
        return np.full(len(UNITS), np.nan, np.float32)
    return unit_scores(blendshapes(face.mesh))


def _labelled(
    clips: Iterator[ScannedClip], taught: dict[str, NDArray[np.float32]]
) -> Iterator[ScannedClip]:
    """The clips with the teacher's labels, in LEVELS steps."""
    largest = np.nanpercentile(np.concatenate(list(taught.values())), 99, axis=0)
    reported = largest >= LEAST
    units = tuple(np.array(UNITS)[reported].tolist())
    print(f"the teacher reports {', '.join(f'AU{unit}' for unit in units)}", flush=True)
    for clip in clips:
        share = taught[clip.key][:, reported] / largest[reported]
        levels = (share.clip(0, 1) * LEVELS).round()
        labels = np.where(np.isnan(levels), -1, levels).astype(np.int8)
        yield replace(clip, action_units=labels, meta=replace(clip.meta, action_units=units))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="where backbones are kept"
    )
    parser.add_argument("--train", metavar="URL", help="corpus to pretrain on")
    parser.add_argument("--heldout", required=True, metavar="URL", help="of other people")
    parser.add_argument("--models", type=Path, metavar="DIR", help="the face models' folder")
    parser.add_argument("--steps", type=int, default=300, help="of each run (default 300)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each case (default 3)")
    parser.add_argument("--cases", metavar="NAME,NAME", help=f"default: {','.join(CASES)}")
    parser.add_argument("--size", type=int, default=48, help="of a picture (default 48)")
    parser.add_argument(
        "--rendered", type=Path, metavar="DIR", help="backbones of tools.bench_objectives"
    )
    parser.add_argument("settings", nargs="*", help="settings of the runs")
    return parser


if __name__ == "__main__":
    command.run(main)

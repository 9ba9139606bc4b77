"""What each objective learns, alone and together, on a rendered world; and what a joint step
costs beside the single ones.

    python -m tools.bench_objectives learn --work DIR [--steps 600 --seeds 3 --cases random,joint]
        [--label-shares 0.02,0.1,1] [--head FILE]
    python -m tools.bench_objectives cost --work DIR

Both take settings of a run behind their options, such as optimizer.learning_rate=1e-3.

`learn` renders two worlds of different people, pretrains on the first, and probes frozen
features on the second, by subjects: intensity (ICC), occurrence (F1 at the threshold chosen on
training subjects) and identity. Backbones are kept in DIR, so that the same command goes on
where it was. Settings are those of a run, on top of experiment=joint_small; objectives that are
no part of it take theirs from RECIPES (objective_bench/cases.py), and all cases see the same
clips in the same view.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# launch/ is imported from the checkout
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataclasses import replace

from ausl_dist import command
from ausl_dist.batch import View
from ausl_dist.evaluate.features.pixels import PIXELS
from ausl_dist.evaluate.features.table import TRUE_LANDMARKS
from ausl_dist.stream.scan import scan
from ausl_dist.world.make import WorldSettings, make_world
from tools.objective_bench.cases import CROP, JOINT, LABELS, RANDOM, SINGLE, settings_of, start
from tools.objective_bench.cost import cost
from tools.objective_bench.labels import print_label_curve
from tools.objective_bench.learn import folds_of, pretrain, table

FLOW_GAP = 18  # of the motion that the world stores: single_image_flow's


def main(words: Sequence[str] | None = None) -> int:
    """The command; `words` are those that were typed, if nothing else is said."""
    arguments = _parser().parse_intermixed_args(words)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    settings = settings_of(
        str(work / "train"),
        steps=arguments.steps,
        size=arguments.size,
        backbone=arguments.backbone,
        words=arguments.settings,
    )
    device = start(settings)
    _render(arguments, "train")
    if arguments.what == "cost":
        cost(settings, work, device)
        return 0
    _render(arguments, "heldout")
    cases = arguments.cases.split(",") if arguments.cases else [RANDOM, *SINGLE, JOINT, LABELS]
    for seed in range(arguments.seeds):
        for case in cases:
            pretrain(case, replace(settings, seed=seed), work, device)
    clips = scan(
        str(work / "heldout"), image_size=arguments.size, stride=3, view=View(crop=CROP)
    )
    rows = {case: (case, work) for case in cases}
    tables = table(settings, rows, arguments.seeds, clips, device)
    if arguments.label_shares:
        seeds = range(arguments.seeds)
        names = {case: [f"{case}-{seed}" for seed in seeds] for case in cases}
        names |= {name: [name] * arguments.seeds for name in (PIXELS, TRUE_LANDMARKS)}
        shares = [float(share) for share in arguments.label_shares.split(",")]
        print_label_curve(tables, names, folds_of(tables[PIXELS]), shares)
    return 0


def _render(arguments: argparse.Namespace, part: str) -> None:
    make_world(
        _world(arguments, part),
        str(arguments.work / part),
        work=arguments.work / "rendering",
        workers=arguments.workers,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("learn", "cost"))
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        metavar="DIR",
        help="where worlds and backbones are kept",
    )
    parser.add_argument("--steps", type=int, default=600, help="of each run (default 600)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each case (default 3)")
    parser.add_argument(
        "--cases",
        metavar="NAME,NAME",
        help=f"{RANDOM}, {JOINT} and names of objectives (default: all)",
    )
    parser.add_argument(
        "--identities", type=int, default=80, help="people to train on (default 80)"
    )
    parser.add_argument(
        "--heldout", type=int, default=40, help="other people, to probe (default 40)"
    )
    parser.add_argument("--clips", type=int, default=4, help="of each (default 4)")
    parser.add_argument(
        "--size",
        type=int,
        default=48,
        metavar="PIXELS",
        help="of the images that the backbone sees (default 48)",
    )
    parser.add_argument(
        "--backbone",
        help="a file of configs/backbone (default: that of experiment=joint_small)",
    )
    parser.add_argument(
        "--label-shares",
        metavar="SHARE,SHARE",
        help="print the intensity with these shares of the probes' labels, too",
    )
    parser.add_argument(
        "--head",
        type=Path,
        metavar="FILE",
        help="a blendshape head (.npz) instead of the built-in one, in a DIR of its own",
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that render (default 1)"
    )
    parser.add_argument(
        "settings",
        nargs="*",
        help="settings of the runs, such as data.clips_per_lane=8 optimizer.learning_rate=3e-4",
    )
    return parser


def _world(arguments: argparse.Namespace, part: str) -> WorldSettings:
    people, seed = (arguments.identities, 1) if part == "train" else (arguments.heldout, 2)
    return WorldSettings(
        identities=people,
        clips=arguments.clips,
        size=max(2 * arguments.size, 64),
        seed=seed,
        flow_gap=FLOW_GAP,
        head=arguments.head,
    )


if __name__ == "__main__":
    command.run(main)

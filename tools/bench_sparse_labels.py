"""Both stages of Sanchez et al. to the end, on a rendered world: what a pretrained
spatio-temporal model is worth where few frames have labels.

    python -m tools.bench_sparse_labels --work DIR [--rates 0.02,1,0.1] [--seeds 3]

Two worlds of different people are rendered. Then, for each share of the labels and each seed,
by the very commands that a user types:

    launch run experiment=predictive_coding                       the first stage
    launch run mixture.landmark_deviation=1                       another objective, as many steps
    launch run experiment=sparse_labels data.label_share=RATE     the second stage, from each of
                                                                  them and from random weights
    evaluate heads                                                each of these on the other people

Runs and scores are kept in DIR, so that the same command goes on where it was, and `--table`
prints what there is by now. Shares are done in the order in which they are given.

Frames are 6 apart and views mild, as small pictures want it, and the head of the second stage
reads the state in 3 x 3 cells, from whatever weights it starts.
"""

import argparse
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ausl_dist import command
from ausl_dist.evaluate.heads import compare_heads
from ausl_dist.evaluate.report.tables import write_report
from ausl_dist.files import read_json
from ausl_dist.run_folder import BACKBONE_FILE, OBJECTIVES_FILE, newest_whole_checkpoint
from ausl_dist.world.expressions import ACTION_UNITS
from ausl_dist.world.make import WorldSettings, make_world

PRETRAINED, OTHER, RANDOM = "predictive_coding", "landmark_deviation", "random weights"
CONSTANT = "constant"
STARTS = (PRETRAINED, OTHER, RANDOM)
# about the view in which a head is used, in mild colours
VIEW = "{crop:[0.8,0.864],flip:0,brightness:0.2,contrast:0.2,saturation:0.2,grey:0}"
OTHER_CLIPS = 2  # of each person who is scored on
STRIDE = 6  # frames, of both stages
WIDTH = 128  # of the temporal module
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Second:
    """One run of the second stage."""

    start: str
    rate: float
    seed: int

    def folder(self, work: Path) -> Path:
        return work / "runs" / f"{self.start.replace(' ', '-')}-{self.rate:g}-{self.seed}"

    def score(self, work: Path) -> dict[str, Any] | None:
        """The rows of its report by name; None where it has not been scored."""
        path = self.folder(work) / "report" / "report.json"
        if not path.exists():
            return None
        return {row["name"]: row["pooled"] for row in read_json(path)["rows"]}


def main() -> int:
    arguments = _parser().parse_args()
    work: Path = arguments.work
    runs = [
        Second(start, float(rate), seed)
        for rate in arguments.rates.split(",")
        for seed in range(arguments.seeds)
        for start in STARTS
    ]
    if not arguments.table:
        work.mkdir(parents=True, exist_ok=True)
        _worlds(arguments)
        for run in runs:
            if run.start in arguments.starts.split(","):
                _second_stage(arguments, run)
                _score(run, work)
    print(table({run: run.score(work) for run in runs}))
    return 0


def table(scores: dict[Second, dict[str, Any] | None]) -> str:
    """Markdown: mean and standard deviation over seeds of pooled ICC and MAE, means over units.

    A cell says of how many runs it is; one of none is left open.
    """
    rates = sorted({run.rate for run in scores})
    lines = [
        "| second stage from | " + " | ".join(f"{100 * rate:g} %" for rate in rates) + " |",
        "|" + "---|" * (len(rates) + 1),
    ]
    for start in STARTS:
        cells = [_cell(_found(scores, start, rate), start) for rate in rates]
        lines.append(f"| {start} | " + " | ".join(cells) + " |")
    lines.append(
        f"| {CONSTANT} | "
        + " | ".join(_cell(_found(scores, RANDOM, rate), CONSTANT) for rate in rates)
        + " |"
    )
    return "\n".join(lines)


def _found(
    scores: dict[Second, dict[str, Any] | None], start: str, rate: float
) -> list[dict[str, Any]]:
    return [
        rows
        for run, rows in scores.items()
        if (run.start, run.rate) == (start, rate) and rows is not None
    ]


def _cell(found: list[dict[str, Any]], name: str) -> str:
    """`0.123 ± 0.004, 0.456 (3)`: ICC with its spread, MAE, number of seeds."""
    if not found:
        return "–"
    icc, mae = ([rows[name][score]["mean"] for rows in found] for score in ("icc", "mae"))
    spread = f" ± {statistics.stdev(icc):.3f}" if len(icc) > 1 else ""
    return f"{statistics.mean(icc):.3f}{spread}, {statistics.mean(mae):.3f} ({len(found)})"


def _worlds(arguments: argparse.Namespace) -> None:
    """Render the people to learn from, who are those of tools.bench_objectives, and others."""
    for part, people, clips, seed in (
        ("people", arguments.identities, arguments.clips, 1),
        ("others", arguments.heldout, OTHER_CLIPS, 2),
    ):
        settings = WorldSettings(
            identities=people,
            clips=clips,
            size=max(2 * arguments.size, 64),
            seed=seed,
        )
        url, rendering = str(arguments.work / part), arguments.work / "rendering"
        make_world(settings, url, work=rendering, workers=1)


def _first_stage(arguments: argparse.Namespace, objective: str, seed: int) -> Path:
    """The checkpoint of a run of one objective, which is trained where it is not there."""
    folder = arguments.work / "runs" / f"{objective}-first-{seed}"
    if objective == PRETRAINED:
        words = ["experiment=predictive_coding", f"objectives.{objective}.width={WIDTH}"]
    else:
        words = ["mixture=none", f"+mixture.{objective}=1"]
    words += _batch(arguments.batch)
    words += [f"objectives.{objective}.stride={STRIDE}", f"objectives.{objective}.view={VIEW}"]
    _launch(arguments, folder, seed, [*words, f"steps={arguments.first_steps}"])
    found = newest_whole_checkpoint(folder)
    if found is None:
        raise ValueError(f"{folder} has no whole checkpoint: remove it, and begin again")
    return found


def _second_stage(arguments: argparse.Namespace, run: Second) -> None:
    head = "objectives.action_units"
    words = [
        "experiment=sparse_labels",
        f"{head}.units={list(ACTION_UNITS)}".replace(" ", ""),
        f"{head}.width={WIDTH}",
        f"{head}.cells=3",
        f"{head}.frames={arguments.frames}",
        f"{head}.stride={STRIDE}",
        *_batch(arguments.windows),
        f"data.label_share={run.rate}",
        f"data.label_seed={run.seed}",
        f"steps={arguments.second_steps}",
        "optimizer.learning_rate=2e-3",
        "optimizer.schedule=cosine",
    ]
    if run.start != RANDOM:
        checkpoint = _first_stage(arguments, run.start, run.seed)
        words.append(f"backbone.weights={checkpoint / BACKBONE_FILE}")
        if run.start == PRETRAINED:
            words.append(f"{head}.context_weights={checkpoint / OBJECTIVES_FILE}")
    _launch(arguments, run.folder(arguments.work), run.seed, words)


def _batch(clips: int) -> list[str]:
    return [f"batch.clips={clips}", f"batch.rate_clips={clips}"]


def _score(run: Second, work: Path) -> None:
    """As `python -m tools.evaluate heads` does it; kept in the run's folder."""
    if run.score(work) is None:
        folder = run.folder(work)
        comparison, context = compare_heads({run.start: folder}, str(work / "others"))
        write_report(comparison, folder / "report", **context)


def _launch(arguments: argparse.Namespace, folder: Path, seed: int, words: list[str]) -> None:
    """Run on this machine to the end, unless that is done."""
    if (folder / "done").exists():
        return
    common = [
        f"name={folder.name}",
        f"folder={folder}",
        f"seed={seed}",
        f"data.corpora.main.url={arguments.work / 'people'}",
        f"data.image_size={arguments.size}",
        f"backbone={arguments.backbone}",
        "engine=zero0",
        "cluster.ranks=1",
        "checkpoint.every_steps=100000",
        *arguments.settings,
    ]
    subprocess.run(
        [sys.executable, "-m", "launch", "run", *words, *common], cwd=ROOT, check=True
    )
    (folder / "done").touch()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--first-steps", type=int, default=300, help="default 300")
    parser.add_argument("--second-steps", type=int, default=150, help="default 150")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each case (default 3)")
    parser.add_argument("--rates", default="0.02,1,0.1,0.05,0.01", help="shares of the labels")
    parser.add_argument("--starts", default=",".join(STARTS), help="done now (default: all)")
    parser.add_argument("--identities", type=int, default=80, help="to learn from (default 80)")
    parser.add_argument("--heldout", type=int, default=20, help="to score on (default 20)")
    parser.add_argument("--clips", type=int, default=4, help="of each (default 4)")
    parser.add_argument("--size", type=int, default=48, metavar="PIXELS", help="default 48")
    parser.add_argument("--batch", type=int, default=6, metavar="CLIPS", help="default 6")
    parser.add_argument(
        "--windows", type=int, default=16, help="of a step of the second stage (default 16)"
    )
    parser.add_argument("--frames", type=int, default=2, help="of a window (default 2)")
    parser.add_argument("--backbone", default="small_conv", help="default small_conv")
    parser.add_argument("--table", action="store_true", help="print what there is, and end")
    parser.add_argument("settings", nargs="*", help="settings of all runs")
    return parser


if __name__ == "__main__":
    command.run(main)

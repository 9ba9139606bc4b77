"""Both stages of Sanchez et al. to the end, on a rendered world: what a pretrained
spatio-temporal model is worth where few frames have labels.

    python -m tools.bench_sparse_labels --work DIR [--first-steps 600 --second-steps 300 --seeds
    3]
        [--rates 0.01,0.02,0.05,0.1,1] [--size 48] [--backbone test_resnet]

Two worlds of different people are rendered. Then, for each seed, by the very commands that a
user types:

    launch run experiment=predictive_coding                       the first stage launch run
    mixture.temporal_contrast=1                        another objective, as many steps launch
    run experiment=sparse_labels data.label_share=RATE     the second, from each of them and
                                                                  from random weights
    evaluate heads                                                all of these on the other
    people

Runs are kept in DIR, so that the same command goes on where it was. With fewer steps or seeds
it prints the table of what there is.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ausl_dist import command
from ausl_dist.evaluate.compare import Comparison
from ausl_dist.evaluate.heads import compare_heads
from ausl_dist.evaluate.report.tables import write_report
from ausl_dist.run_folder import BACKBONE_FILE, OBJECTIVES_FILE, newest_whole_checkpoint
from ausl_dist.world.make import WorldSettings, make_world

PRETRAINED, OTHER, RANDOM = "predictive coding", "temporal contrast", "random weights"
SECONDS = 3.0  # of a clip, as the builder's
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Second:
    """One run of the second stage."""

    start: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.start}, {100 * self.rate:g} %, seed {self.seed}"

    def folder(self, work: Path) -> Path:
        return work / "runs" / f"{self.start.replace(' ', '-')}-{self.rate:g}-{self.seed}"


def main() -> int:
    arguments = _parser().parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    units = _worlds(arguments)
    rates = [float(rate) for rate in arguments.rates.split(",")]
    runs = []
    for seed in range(arguments.seeds):
        starts = {RANDOM: None, **dict(_first_stages(arguments, seed))}
        for rate in rates:
            for start, checkpoint in starts.items():
                run = Second(start, rate, seed)
                _second_stage(arguments, run, checkpoint, units)
                runs.append(run)
    folders = {run.name: run.folder(work) for run in runs}
    comparison, context = compare_heads(folders, str(work / "others"), stride=arguments.stride)
    write_report(comparison, work / "report", **context)
    print(table(comparison, runs))
    print(f"ICC and MAE of each unit: {work / 'report' / 'report.json'}")
    return 0


def table(comparison: Comparison, runs: list[Second]) -> str:
    """Markdown: mean and standard deviation over seeds of pooled ICC and MAE, means over units."""
    scores = {row.name: row.scores for row in comparison.rows}
    rates = sorted({run.rate for run in runs})
    lines = [
        "| ICC, MAE | " + " | ".join(f"{100 * rate:g} %" for rate in rates) + " |",
        "|" + "---|" * (len(rates) + 1),
    ]
    for start in dict.fromkeys(run.start for run in runs):
        cells = []
        for rate in rates:
            names = [run.name for run in runs if (run.start, run.rate) == (start, rate)]
            icc, mae = (
                [scores[name][score].mean for name in names] for score in ("icc", "mae")
            )
            cells.append(f"{_spread(icc)}, {statistics.mean(mae):.3f}")
        lines.append(f"| {start} | " + " | ".join(cells) + " |")
    constant = scores["constant"]
    lines.append(f"\nA constant: {constant['icc'].mean:.3f}, {constant['mae'].mean:.3f}.")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _worlds(arguments: argparse.Namespace) -> list[int]:
    """Render the people to learn from and the others; returns the units that are labelled."""
    for part, people, seed in (
        ("people", arguments.identities, 1),
        ("others", arguments.heldout, 2),
    ):
        settings = WorldSettings(
            identities=people,
            clips=arguments.clips,
            seconds=SECONDS,
            size=max(2 * arguments.size, 64),
            seed=seed,
        )
        made = make_world(
            settings, str(arguments.work / part), work=arguments.work / "rendering", workers=1
        )
    units: list[int] = list(made.statement["action_units"])
    return units


def _first_stages(arguments: argparse.Namespace, seed: int) -> Iterator[tuple[str, Path]]:
    """The checkpoints of the first stage and of the other objective."""
    other = [
        "mixture=none",
        "mixture.temporal_contrast=1",
        "objectives.temporal_contrast.teacher_momentum=0.99",
    ]
    for start, words in ((PRETRAINED, ["experiment=predictive_coding"]), (OTHER, other)):
        folder = arguments.work / "runs" / f"{start.replace(' ', '-')}-first-{seed}"
        _launch(arguments, folder, seed, [*words, f"steps={arguments.first_steps}"])
        yield start, _checkpoint(folder)


def _second_stage(
    arguments: argparse.Namespace, run: Second, checkpoint: Path | None, units: list[int]
) -> None:
    words = [
        "experiment=sparse_labels",
        f"objectives.action_units.units={units}".replace(" ", ""),
        f"data.label_share={run.rate}",
        f"data.label_seed={run.seed}",
        f"steps={arguments.second_steps}",
        f"optimizer.learning_rate={arguments.learning_rate}",
    ]
    if checkpoint is not None:
        words.append(f"backbone.weights={checkpoint / BACKBONE_FILE}")
    if checkpoint is not None and run.start == PRETRAINED:
        words.append(f"objectives.action_units.context_weights={checkpoint / OBJECTIVES_FILE}")
    _launch(arguments, run.folder(arguments.work), run.seed, words)


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
        f"batch.clips={arguments.batch}",
        f"batch.rate_clips={arguments.batch}",
        "engine=zero0",
        "cluster.ranks=1",
        "checkpoint.every_steps=100000",
        *arguments.settings,
    ]
    subprocess.run(
        [sys.executable, "-m", "launch", "run", *words, *common], cwd=ROOT, check=True
    )
    (folder / "done").touch()


def _checkpoint(folder: Path) -> Path:
    found = newest_whole_checkpoint(folder)
    if found is None:
        raise ValueError(f"{folder} has no whole checkpoint: remove it, and begin again")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--first-steps", type=int, default=600, help="default 600")
    parser.add_argument("--second-steps", type=int, default=300, help="default 300")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each case (default 3)")
    parser.add_argument("--rates", default="0.01,0.02,0.05,0.1,1", help="shares of the labels")
    parser.add_argument("--identities", type=int, default=80, help="to learn from (default 80)")
    parser.add_argument("--heldout", type=int, default=20, help="to score on (default 20)")
    parser.add_argument("--clips", type=int, default=3, help="of each (default 3)")
    parser.add_argument("--size", type=int, default=48, metavar="PIXELS", help="default 48")
    parser.add_argument("--batch", type=int, default=8, metavar="CLIPS", help="default 8")
    parser.add_argument("--backbone", default="test_resnet", help="default test_resnet")
    parser.add_argument("--learning-rate", default="1e-3", help="second stage (default 1e-3)")
    parser.add_argument(
        "--stride", type=int, default=5, help="score every N-th frame (default 5)"
    )
    parser.add_argument("settings", nargs="*", help="settings of all runs")
    return parser


if __name__ == "__main__":
    command.run(main)

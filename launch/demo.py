"""The main job on one machine, step by step, each step a command that can be typed by itself.

    video ─▶ shards on an object store (loopback) ─▶ pretraining, two ranks ─▶ table
        ─▶ backbone bundle with it

Without arguments the video is a rendered world of talking faces, whose action units are known,
so the table can say what was learnt. With `--videos DIR` it is the user's own; then there are
no labels, and the table says what was kept, how fast it ran and how the loss fell. Each step
skips what is there already; everything lies under runs/.
"""

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ausl_dist import command
from launch.object_store import ObjectStore

ROOT = Path(__file__).resolve().parents[1]
BUCKET = "corpora"


@dataclass(frozen=True)
class DemoJob:
    """Where things of one demo lie."""

    folder: Path  # runs/demo or runs/demo-videos-HASH
    corpus: str  # name of the corpus in the bucket

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/{self.corpus}"

    @property
    def run(self) -> Path:
        return self.folder / "train"

    @property
    def bundle(self) -> Path:
        return self.folder / "backbone"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bash launch/demo.sh",
        description="Face video in, pretrained backbone out, on this machine.",
    )
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="your own face video instead of the rendered world",
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="folder with the detector and landmark model (with --videos)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        help="settings of the run, such as steps=100 or mixture.temporal_contrast=0.5",
    )
    arguments = parser.parse_args()
    if arguments.videos and not arguments.videos.is_dir():
        raise ValueError(f"--videos {arguments.videos}: no such folder")
    start = time.monotonic()
    with ObjectStore(ROOT / "runs" / "object-store") as store:
        os.environ.update(store.environment)
        store.make_bucket(BUCKET)
        job = (
            _video_job(arguments.videos, arguments.models)
            if arguments.videos
            else _rendered_job()
        )
        experiment = "demo_videos" if arguments.videos else "demo"
        _step(
            "launch",
            "run",
            f"experiment={experiment}",
            f"data.corpora.main.url={job.url}",
            f"folder={job.run}",
            *arguments.overrides,
        )
        if not arguments.videos:
            _judge(job)
        _step("tools.release", str(job.run), "--out", str(job.bundle))
        if arguments.videos:
            _step("tools.report", str(job.run))
            _print_curve(job.run)
    print(
        f"\nDone in {time.monotonic() - start:.0f} s. The backbone: {_short(job.bundle)}, the run: "
        f"{_short(job.run)}"
    )
    print(
        "Use it:  python -c 'import ausl_dist; "
        f'print(ausl_dist.load_backbone("{_short(job.bundle)}"))\''
    )
    return 0


def _judge(job: DemoJob) -> None:
    """Score the backbone on other people before it is released, so that its card carries the
    table.

    Scores are of a bundle; this one has none yet, and stays beside the released one.
    """
    unjudged = job.folder / "unjudged"
    _step("tools.release", str(job.run), "--out", str(unjudged), "--evaluation", "none")
    judged_on = ["--corpus", f"s3://{BUCKET}/world-heldout", "--stride", "3"]
    report = job.run / "evaluation" / "rendered"
    _step("tools.evaluate", "compare", str(unjudged), *judged_on, "--out", str(report))
    from launch.demo_page import write_page  # imports torch

    shown = write_page(job.run, f"s3://{BUCKET}/world-heldout")
    print(f"in pictures: {_short(shown)}")


def _rendered_job() -> DemoJob:
    """Render the world: one corpus to pretrain on, one of other identities to judge by."""
    _step(
        "tools.render_world",
        "--identities",
        "48",
        "--clips",
        "4",
        "--size",
        "96",
        "--seed",
        "1",
        "--out",
        f"s3://{BUCKET}/world",
    )
    _step(
        "tools.render_world",
        "--identities",
        "40",
        "--clips",
        "3",
        "--size",
        "96",
        "--seed",
        "2",
        "--out",
        f"s3://{BUCKET}/world-heldout",
    )
    return DemoJob(ROOT / "runs" / "demo", "world")


def _video_job(videos: Path, models: Path | None) -> DemoJob:
    """Build a corpus from a folder of face video; its name follows the folder, so that another
    folder is another corpus.
    """
    name = "videos-" + hashlib.sha256(str(videos.resolve()).encode()).hexdigest()[:8]
    job = DemoJob(ROOT / "runs" / f"demo-{name}", name)
    _step(
        "tools.build_corpus",
        str(videos),
        "--out",
        job.url,
        "--workers",
        "2",
        environment={"AUSL_MODELS": str(models)} if models else {},
    )
    return job


def _step(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run `python -m MODULE ...` in the foreground, after showing it as one would type it; its
    failure is the demo's.
    """
    print(f"\n$ python -m {module} {shlex.join(arguments)}", flush=True)
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    if finished.returncode:
        raise ValueError(
            f"the step above failed (exit code {finished.returncode}); mend what it says and run "
            "the demo again"
        )


def _print_curve(run: Path, rows: int = 12, width: int = 40) -> None:
    """The loss over the run as bars, with the rate and the share of time that steps waited for
    data.
    """
    from ausl_dist.observe.history import read_metrics

    steps = [line for line in read_metrics(run) if line["loss"] is not None]
    size = max(1, -(-len(steps) // rows))
    parts = [steps[start : start + size] for start in range(0, len(steps), size)]
    losses = [sum(line["loss"] for line in part) / len(part) for part in parts]
    print("\n   steps         loss   clips/s   waiting for data")
    for part, loss in zip(parts, losses, strict=True):
        seconds = sum(line["seconds"]["total"] for line in part)
        waiting = sum(line["seconds"]["data"] for line in part) / seconds
        rate = sum(line["clips"] for line in part) / seconds
        bar = "█" * round(width * loss / max(losses))
        print(
            f"{part[0]['step']:>5} - {part[-1]['step']:<5} {loss:8.4f} {rate:9.1f} {waiting:10.1%} "
            f"  {bar}"
        )


def _short(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    command.run(main)

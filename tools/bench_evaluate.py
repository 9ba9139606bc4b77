"""How fast evaluation is: features beside the decoding that they wait for, and the probes.

    python -m tools.bench_evaluate features --corpus URL [--backbone resnet18] [--image-size 112]
    python -m tools.bench_evaluate probe [--rows 150000] [--width 512] [--units 12]

Rates are in frames for each CPU-second of this process, all threads together, so that other
work on the machine does not change them. The backbone runs on the GPU where there is one;
without one, its own time hides everything else, and the line without a backbone is the one to
read: what extraction adds to decoding.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from ausl_dist import command
from ausl_dist.evaluate.features.entrant import fastest_device
from ausl_dist.evaluate.features.table import FeatureTable, extract
from ausl_dist.evaluate.predictors.probe import fit_linear
from ausl_dist.evaluate.scores.formulas import occurrence
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.stream.scan import scan

SUBJECTS = 41  # as BP4D


class _Mean(nn.Module):
    """The cheapest backbone there is: the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Linear(1, 1)  # tells the device

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.mean((2, 3)), images


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    features = commands.add_parser(
        "features", help="extraction of features against decoding alone"
    )
    features.add_argument(
        "--corpus",
        required=True,
        metavar="URL",
        help="labelled corpus: a path or s3://bucket/prefix",
    )
    features.add_argument(
        "--backbone", default="resnet18", metavar="NAME", help="timm's name (default: resnet18)"
    )
    features.add_argument("--image-size", type=int, default=112, metavar="PIXELS")
    features.set_defaults(run=_features)
    probe = commands.add_parser("probe", help="ridge and logistic probe with their selection")
    probe.add_argument("--rows", type=int, default=150_000)
    probe.add_argument("--width", type=int, default=512)
    probe.add_argument("--units", type=int, default=12)
    probe.set_defaults(run=_probe)
    arguments = parser.parse_args()
    arguments.run(arguments)
    return 0


def _features(arguments: argparse.Namespace) -> None:
    size = arguments.image_size
    backbone = (
        build_backbone(BackboneSettings(arguments.backbone, size)).eval().to(fastest_device())
    )

    def clips() -> int:
        return sum(len(clip.numbers) for clip in scan(arguments.corpus, image_size=size))

    def rows(network: nn.Module) -> int:
        return len(
            extract({"features": network}, scan(arguments.corpus, image_size=size))["features"]
        )

    decoding = _rate("decoding", clips)
    for name, network in (
        ("without a backbone", _Mean().eval()),
        (f"{arguments.backbone} on {fastest_device()}", backbone),
    ):
        rate = _rate(f"features, {name}", lambda network=network: rows(network))  # type: ignore[misc]
        print(f"  {rate / decoding:.2f} of the decode rate", flush=True)


def _rate(label: str, work: Callable[[], int]) -> float:
    cpu, wall = time.process_time(), time.monotonic()
    frames = work()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(
        f"{label}: {frames} frames, {frames / cpu:.0f} per CPU-second, "
        f"{frames / wall:.0f} per second",
        flush=True,
    )
    return frames / cpu


def _probe(arguments: argparse.Namespace) -> None:
    table = _made_up(arguments.rows, arguments.width, arguments.units)
    for task, labels in (
        ("intensity", table.labels),
        ("occurrence", occurrence(table.labels, 2)),
    ):
        cpu, wall = time.process_time(), time.monotonic()
        fit_linear(replace(table, labels=labels), task)  # type: ignore[arg-type]
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        print(
            f"{task}: {arguments.rows} x {arguments.width}, {arguments.units} units: "
            f"{cpu:.1f} CPU-seconds, {wall:.1f} s",
            flush=True,
        )


def _made_up(rows: int, width: int, units: int) -> FeatureTable:
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, (rows, units)).astype(np.int8)
    features = labels.astype(np.float32) @ random.normal(size=(units, width)).astype(np.float32)
    features += 4 * random.standard_normal((rows, width), np.float32)
    subject = np.sort(random.integers(0, SUBJECTS, rows)).astype(np.int32)
    return FeatureTable(
        features=features,
        labels=labels,
        action_units=tuple(range(1, units + 1)),
        subject=subject,
        subjects=tuple(f"S{number:02d}" for number in range(SUBJECTS)),
        clip=subject,
        clips=tuple(f"clip{number}" for number in range(SUBJECTS)),
        frame=np.arange(rows, dtype=np.int32),
        fingerprint=np.arange(rows, dtype=np.uint64),
    )


if __name__ == "__main__":
    command.run(main)

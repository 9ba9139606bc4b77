"""What a backbone is worth for action units, beside the same network with random weights, a
constant and a guess.

    on a labelled corpus of shards:
    python -m tools.evaluate compare BUNDLE --corpus URL --out DIR
    on a published data set as it lies on disk:
    python -m tools.evaluate bundle=BUNDLE data=disfa root=DIR
    ours beside anybody's (DINOv3, V-JEPA 2 and 2.1, AVF-MAE++, FMAE, MARLIN, timm, Hugging Face):
    python -m tools.evaluate referee ours=BUNDLE MARLIN=FILE DINOv3=FILE X=timm:NETWORK
        --corpus URL | --data disfa --root DIR --out DIR
    heads that runs trained, or that bundles carry, with their temporal modules:
    python -m tools.evaluate heads NAME=RUN NAME=BUNDLE --corpus URL --out DIR
    somebody else's backbone (timm, state_dict, mae, marlin, dinov3, vjepa, avf_mae, hugging_face):
    python -m tools.evaluate foreign.kind=mae foreign.weights=FILE data=disfa root=DIR

The ones with data= take settings as key=value: out, cache, protocol (linear, mlp, temporal,
finetune), task, split, lists, label_share, label_rates, alignment_meter, stride, models, seed,
probe.penalties, network.hidden, finetune.layer_decay, …; config=FILE reads them from a file of
configs/eval/ first. Identities that are tested on are never fitted on; every decision is made
before the test is read, once.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from ausl_dist import command
from ausl_dist.evaluate.compare import CompareSettings
from ausl_dist.evaluate.heads import compare_heads
from ausl_dist.evaluate.protocol import ProtocolSettings, run_protocol
from ausl_dist.evaluate.referee import RefereeSettings, referee
from ausl_dist.evaluate.released import compare_bundle
from ausl_dist.evaluate.report.plots import rows_picture
from ausl_dist.evaluate.report.tables import to_text, write_report
from ausl_dist.files import read_json, write_atomically
from ausl_dist.settings import from_mapping
from ausl_dist.train.config_text import load_config


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if any("=" in text and not text.startswith("-") for text in sys.argv[1:2]):
        return _protocol(sys.argv[1:])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="pretrained, random weights, a constant and a guess on a labelled corpus",
    )
    compare.add_argument(
        "bundle",
        type=Path,
        metavar="BUNDLE",
        help="bundle folder, as python -m tools.release writes it",
    )
    compare.add_argument(
        "--corpus",
        required=True,
        metavar="URL",
        help="labelled corpus: a path or s3://bucket/prefix",
    )
    compare.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="for report.json, .md, .html and the predictions",
    )
    compare.add_argument("--task", choices=("intensity", "occurrence"), default="intensity")
    compare.add_argument(
        "--positive-from",
        type=int,
        default=2,
        metavar="LEVEL",
        help="occurrence from this intensity on (default: 2)",
    )
    compare.add_argument(
        "--stride", type=int, default=1, metavar="N", help="use every N-th frame"
    )
    compare.add_argument(
        "--test-share",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="of the identities, held out (default: 0.3)",
    )
    compare.add_argument(
        "--seed", type=int, default=0, help="of the split and of the random weights"
    )
    compare.set_defaults(run=_compare)
    _add_heads(commands)
    _add_referee(commands)
    arguments = parser.parse_args()
    result: int = arguments.run(arguments)
    return result


def _compare(arguments: argparse.Namespace) -> int:
    settings = CompareSettings(
        task=arguments.task,
        positive_from=arguments.positive_from,
        test_share=arguments.test_share,
        seed=arguments.seed,
    )
    comparison, context = compare_bundle(
        arguments.bundle, arguments.corpus, settings, stride=arguments.stride
    )
    write_report(comparison, arguments.out, **context)
    print(to_text(comparison), end="")
    print(f"report: {arguments.out / 'report.html'}")
    return 0


def _add_heads(commands: Any) -> None:
    heads = commands.add_parser(
        "heads",
        help="heads that were trained with their backbones, as they are, on other people",
    )
    heads.add_argument(
        "heads", nargs="+", metavar="NAME=FOLDER", help="run folders and bundles"
    )
    heads.add_argument(
        "--corpus", required=True, metavar="URL", help="labelled, of other people"
    )
    heads.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the report")
    heads.add_argument(
        "--folds", type=int, default=4, metavar="N", help="over people (default: 4)"
    )
    heads.add_argument(
        "--stride", type=int, default=1, metavar="N", help="score every N-th frame"
    )
    heads.add_argument("--seed", type=int, default=0, help="of the folds and of the intervals")
    heads.set_defaults(run=_heads)


def _named(words: list[str], what: str) -> dict[str, str]:
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ValueError(f"write NAME={what}, not {wrong[0]!r}")
    return dict(word.split("=", 1) for word in words)


def _add_referee(commands: Any) -> None:
    parser = commands.add_parser(
        "referee", help="backbones of anybody beside each other, by one protocol"
    )
    parser.set_defaults(run=_referee)
    add = parser.add_argument
    add(
        "entrants",
        nargs="+",
        metavar="NAME=WHAT",
        help="a bundle, a published file or folder, or timm:NETWORK; the first is compared "
        "with the others",
    )
    add("--corpus", default="", metavar="URL", help="labelled corpus of shards")
    add("--data", default="", metavar="NAME", help="or a data set: disfa, bp4d, gft, …")
    add("--root", default="", metavar="DIR", help="of the data set, as it was distributed")
    add("--out", type=Path, required=True, metavar="DIR", help="for the report")
    add("--readout", choices=("own", "grid", "regions"), default="own", help="of every map")
    add("--protocol", choices=("linear", "mlp"), default="linear")
    add("--task", choices=("auto", "intensity", "occurrence"), default="auto")
    add("--split", default="usual", metavar="NAME", help="where several are published")
    add("--label-share", type=float, default=1.0, metavar="SHARE", help="of training frames")
    add("--stride", type=int, default=1, metavar="N", help="use every N-th frame")
    add("--seed", type=int, default=0, help="of folds, random weights and intervals")
    add("--models", metavar="DIR", help="of the face detection models")
    add("--cache", default=RefereeSettings.cache, metavar="DIR", help="of cropped data sets")
    add("--no-random", action="store_true", help="no rows of random weights")


def _referee(arguments: argparse.Namespace) -> int:
    given = vars(arguments)
    names = {field.name for field in dataclasses.fields(RefereeSettings)}
    settings = RefereeSettings(
        **{name: value for name, value in given.items() if name in names},
        random_weights=not arguments.no_random,
    )
    comparison, context = referee(_named(arguments.entrants, "WHAT"), settings)
    write_report(comparison, arguments.out, **context)
    report = read_json(arguments.out / "report.json")
    write_atomically(arguments.out / "report.svg", rows_picture(report))
    print(to_text(comparison), end="")
    print(f"report: {arguments.out / 'report.html'}")
    return 0


def _heads(arguments: argparse.Namespace) -> int:
    folders = _named(arguments.heads, "FOLDER")
    comparison, context = compare_heads(
        {name: Path(folder) for name, folder in folders.items()},
        arguments.corpus,
        CompareSettings(seed=arguments.seed),
        folds=arguments.folds,
        stride=arguments.stride,
    )
    write_report(comparison, arguments.out, **context)
    print(to_text(comparison), end="")
    print(f"report: {arguments.out / 'report.html'}")
    return 0


def _protocol(words: list[str]) -> int:
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ValueError(f"write settings as key=value, not {wrong[0]!r}")
    files = [
        load_config(Path(word.removeprefix("config=")))
        for word in words
        if word.startswith("config=")
    ]
    given = OmegaConf.from_dotlist([word for word in words if not word.startswith("config=")])
    config = OmegaConf.to_container(OmegaConf.merge(*files, given), resolve=True)
    settings = from_mapping(ProtocolSettings, cast(dict[str, Any], config))
    comparison, context = run_protocol(settings)
    write_report(comparison, Path(settings.out), **context)
    print(to_text(comparison), end="")
    print(f"report: {Path(settings.out) / 'report.html'}")
    return 0


if __name__ == "__main__":
    command.run(main)

"""Release the backbone of a run as a bundle: weights, preprocessing, card, record, checksums.

python -m tools.release RUN --out DIR [--checkpoint best] [--faces VIDEO] [--push ORG/NAME]
"""

import argparse
from pathlib import Path

from ausl_dist import command
from ausl_dist.files import read_bounded
from ausl_dist.release.bundle import write_bundle, write_named_bundle
from ausl_dist.release.export import KINDS, check_exports
from ausl_dist.release.hub import check_repository, push
from ausl_dist.release.load import load_backbone
from ausl_dist.release.run import MAX_STATEMENT_BYTES, parse_statement


def main() -> int:
    arguments = _parser().parse_args()
    check_exports(arguments.export)
    if arguments.push:
        check_repository(arguments.push)
    corpora = {
        name: parse_statement(read_bounded(path, MAX_STATEMENT_BYTES), path)
        for name, path in map(_pair, arguments.corpus)
    }
    named = [text for text in arguments.evaluation if text != "none"]
    choices = {
        "checkpoint": arguments.checkpoint,
        "corpora": corpora,
        "evaluations": {name: Path(path) for name, path in map(_pair, named)}
        if arguments.evaluation
        else None,
        "exports": arguments.export,
        "weights": arguments.weights,
        "head": arguments.head,
        "faces": arguments.faces,
        "models": arguments.models,
        "licence": arguments.licence,
    }
    bundle = arguments.out
    if arguments.into:
        bundle = write_named_bundle(arguments.run, arguments.into, **choices)
    else:
        write_bundle(arguments.run, bundle, **choices)
    released = load_backbone(bundle)  # the proof that it can be used
    info = released.info
    print(
        f"released {info.architecture} of step {info.step}, {info.record['chosen']}, as {bundle}"
    )
    print(
        f"{info.release}, identity {info.identity}; preprocessing {info.preprocessing.digest}"
    )
    if info.models is None:
        print(
            "without the detection models, which were not found: run python -m tools.fetch_models before, "
            "and the bundle needs nothing else"
        )
    if released.head is not None:
        print(
            f"action units {', '.join(map(str, released.head.spec.action_units))}: "
            f"{released.head.spec.source}"
        )
    if arguments.push:
        print(f"pushed as {push(bundle, arguments.push)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="bundle folder to write; an older bundle there is replaced",
    )
    place.add_argument(
        "--into",
        type=Path,
        metavar="DIR",
        help="folder to write the bundle into, as NAME-STEP-HASH: named by its content",
    )
    parser.add_argument(
        "--push",
        metavar="ORG/NAME",
        help="upload the bundle to the hub too; a new repository there is private",
    )
    _options_of_content(parser)
    _options_of_measures(parser)
    return parser


def _options_of_content(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the bundle holds")
    group.add_argument(
        "--checkpoint",
        default="newest",
        metavar="newest|best|DIR",
        help="the newest complete checkpoint (default), the best of those kept by the run's online "
        "probe, or a checkpoint folder",
    )
    group.add_argument(
        "--weights",
        choices=("student", "teacher"),
        default="student",
        help="whose weights (default: student)",
    )
    group.add_argument(
        "--head",
        default="run",
        metavar="run|none|DIR",
        help="action-unit head: the one that the run trained, if it did (default); none; "
        "or the linear probe of an evaluation's folder",
    )
    group.add_argument(
        "--export",
        action="append",
        default=[],
        choices=KINDS,
        help="write the backbone in this form too; can be repeated",
    )
    group.add_argument(
        "--corpus",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a copy of corpus.json, where the corpus cannot be reached",
    )
    group.add_argument(
        "--evaluation",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="an output folder of python -m tools.evaluate to put into the card (default: "
        "all under RUN/evaluation); 'none' for no evaluation",
    )
    group.add_argument(
        "--licence",
        default="other",
        help="licence of the weights, as the hub writes it (default: other); a permissive one is "
        "refused where a source has another, or none is recorded",
    )


def _options_of_measures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what its tolerance is measured on")
    group.add_argument(
        "--faces",
        action="append",
        default=[],
        metavar="VIDEO",
        help="video, picture or folder with the faces that tolerance and errors of exports are "
        "measured on (default: rendered faces)",
    )
    group.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="folder of the face detection models (see python -m tools.fetch_models)",
    )


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise ValueError(f"write {text!r} as NAME=PATH")
    return name, value


if __name__ == "__main__":
    command.run(main)

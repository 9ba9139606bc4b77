"""Release the backbone of a run as a bundle: weights, preprocessing, card, record, checksums.

python tools/release.py RUN --out DIR [--push ORG/NAME]
"""

import argparse
from pathlib import Path

from ausl_dist import command
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.export import KINDS
from ausl_dist.release.hub import check_repository, push
from ausl_dist.release.load import load_backbone
from ausl_dist.release.run import parse_statement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="bundle folder to write; an older bundle there is replaced")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="a checkpoint folder (default: the newest complete one)")
    parser.add_argument(
        "--corpus", action="append", default=[], metavar="NAME=FILE", help="a copy of corpus.json, where the corpus cannot be reached"
    )
    parser.add_argument(
        "--evaluation",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="an output folder of tools/evaluate.py to put into the card (default: all under RUN/evaluation); 'none' for no evaluation",
    )
    parser.add_argument(
        "--head",
        default="run",
        metavar="run|none|DIR",
        help="action-unit head: the one that the run trained, if it did (default); none; or the linear probe of an evaluation's folder",
    )
    parser.add_argument("--export", action="append", default=[], choices=KINDS, help="write the backbone in this form too; can be repeated")
    parser.add_argument("--weights", choices=("student", "teacher"), default="student", help="whose weights (default: student)")
    parser.add_argument("--licence", default="other", help="licence of the weights, as the hub writes it (default: other)")
    parser.add_argument("--push", metavar="ORG/NAME", help="upload the bundle to the hub too; a new repository there is private")
    arguments = parser.parse_args()
    if arguments.push:
        check_repository(arguments.push)
    corpora = {name: parse_statement(Path(path).read_bytes(), path) for name, path in map(_pair, arguments.corpus)}
    named = [text for text in arguments.evaluation if text != "none"]
    identity = write_bundle(
        arguments.run,
        arguments.out,
        checkpoint=arguments.checkpoint,
        corpora=corpora,
        evaluations={name: Path(path) for name, path in map(_pair, named)} if arguments.evaluation else None,
        exports=arguments.export,
        weights=arguments.weights,
        head=arguments.head,
        licence=arguments.licence,
    )
    released = load_backbone(arguments.out)  # the proof that it can be used
    info = released.info
    print(f"released {info.architecture} of step {info.step} as {arguments.out}")
    print(f"identity {identity}; preprocessing {info.preprocessing.digest}")
    if released.head is not None:
        print(f"action units {', '.join(map(str, released.head.spec.action_units))}: {released.head.spec.source}")
    if arguments.push:
        print(f"pushed as {push(arguments.out, arguments.push)}")
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise ValueError(f"write {text!r} as NAME=PATH")
    return name, value


if __name__ == "__main__":
    command.run(main)

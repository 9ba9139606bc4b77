"""Run the evaluations recorded in a released backbone again, and compare.

python -m tools.reproduce BUNDLE [--data NAME=PLACE]
"""

import argparse
from pathlib import Path

from ausl_dist import command
from ausl_dist.evaluate.reproduce import reproduce


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle folder")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help="where the corpus or data set of an evaluation lies now",
    )
    arguments = parser.parse_args()
    wrong = [text for text in arguments.data if "=" not in text]
    if wrong:
        raise ValueError(f"write {wrong[0]!r} as NAME=PLACE")
    failed = 0
    for check in reproduce(
        arguments.bundle, data=dict(text.split("=", 1) for text in arguments.data)
    ):
        verdict = "reproduced" if check.holds else "DIFFERS"
        scores = f"{check.score} {check.recorded:.4f} recorded, {check.found:.4f} found"
        print(f"{check.evaluation}, {check.row}: {scores}: {verdict}", flush=True)
        failed += not check.holds
    return 1 if failed else 0


if __name__ == "__main__":
    command.run(main)

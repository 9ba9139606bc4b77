"""Is this copy of a labelled data set right? Says what was found, and what to do about it.

python -m tools.verify_labels disfa DIR
python -m tools.verify_labels disfa DIR --write-example    a small tree of rendered faces
"""

import argparse
from pathlib import Path

from ausl_dist import command
from ausl_dist.evaluate.datasets import DATA_SETS, find_data_set
from ausl_dist.evaluate.datasets.check import check, summary
from ausl_dist.evaluate.datasets.examples import rendered_faces, write_tree

EXAMPLE_SUBJECTS = 9
# where the data set's names are not listed
OTHER_SUBJECTS = tuple(f"S{number:03d}" for number in range(1, EXAMPLE_SUBJECTS + 1))
MARKS = {"right": "+", "note": " ", "wrong": "!"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_set", metavar="NAME", help=", ".join(DATA_SETS))
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="the data set as it was distributed"
    )
    parser.add_argument(
        "--write-example",
        action="store_true",
        help="first write a small example of the format into DIR",
    )
    arguments = parser.parse_args()
    data_set = find_data_set(arguments.data_set)
    if arguments.write_example:
        if arguments.folder.exists():
            raise ValueError(
                f"{arguments.folder} exists: an example is written into a new folder"
            )
        write_tree(
            data_set.name,
            arguments.folder,
            rendered_faces((data_set.subjects or OTHER_SUBJECTS)[:EXAMPLE_SUBJECTS]),
        )
    if not arguments.folder.is_dir():
        raise ValueError(f"{arguments.folder} is not a folder")
    findings = []
    for finding in check(data_set, arguments.folder):
        print(f"{MARKS[finding.level]} {finding.text}", flush=True)
        findings.append(finding)
    print(f"{arguments.data_set}: {summary(findings)}")
    return 1 if any(finding.level == "wrong" for finding in findings) else 0


if __name__ == "__main__":
    command.run(main)

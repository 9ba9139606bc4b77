"""Write the report of a run as one HTML page: python -m tools.report RUN"""

import argparse
from pathlib import Path

from ausl_dist import command
from ausl_dist.files import as_ours, write_atomically
from ausl_dist.observe.diagnosis import findings
from ausl_dist.observe.report import build_report


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write one self-contained HTML page about a run: curves, stalls, "
        "restarts and faults, unusable clips, config, record. "
        "The run may be in progress, finished or dead."
    )
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--out", type=Path, help="where to (default: RUN/report.html)")
    arguments = parser.parse_args()
    out = arguments.out or arguments.run / "report.html"
    with as_ours(arguments.run):
        page, found = build_report(arguments.run), findings(arguments.run)
    write_atomically(out, page)
    for finding in found:
        print(f"{finding.kind}: {finding.text}")
    print(f"report: {out}")
    return 0


if __name__ == "__main__":
    command.run(main)

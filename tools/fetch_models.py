"""Fetch the face detector and the landmark model from their official addresses, each checked
against its pinned SHA-256.

    python -m tools.fetch_models [--to DIR]
"""

import argparse
from pathlib import Path

from ausl_dist import command
from ausl_dist.faces.models import MODELS, cache_folder, fetch_model


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=cache_folder(),
        metavar="DIR",
        help=f"folder (default: {cache_folder()})",
    )
    folder = parser.parse_args().to
    for model in MODELS:
        print(f"{fetch_model(model, folder)}  {model.licence}", flush=True)
    return 0


if __name__ == "__main__":
    command.run(main)

"""Write the Grafana dashboard from ausl_dist/observe/dashboard.py.

python -m tools.make_dashboard
"""

import argparse
from pathlib import Path

from ausl_dist import command
from ausl_dist.files import write_json
from ausl_dist.observe.dashboard import build

DEFAULT_OUT = Path(__file__).resolve().parent / "monitoring" / "dashboard.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write the Grafana dashboard; import it under Dashboards > New > Import."
    )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, help="where to (default: %(default)s)"
    )
    arguments = parser.parse_args()
    write_json(arguments.out, build())
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    command.run(main)

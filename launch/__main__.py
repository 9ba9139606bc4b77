"""`python -m launch`: start, stop and follow jobs.

    python -m launch run experiment=demo             this machine, one process per rank
    python -m launch resume runs/demo                go on from the newest whole checkpoint
    python -m launch run experiment=demo --dry-run   print the resolved config
"""

import argparse
from pathlib import Path

from ausl_dist import command


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m launch", description="Start, stop and follow pretraining jobs.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run a job on this machine")
    run.add_argument("overrides", nargs="*", help="hydra overrides: experiment=demo optimizer.lr=1e-3 ...")
    run.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    resume = verbs.add_parser("resume", help="go on with a run from its newest whole checkpoint")
    resume.add_argument("folder", type=Path, help="the run folder")
    resume.add_argument("--ranks", type=int, help="another number of ranks than before")
    arguments = parser.parse_args()
    return {"run": _run, "resume": _resume}[arguments.verb](arguments)


def _run(arguments: argparse.Namespace) -> int:
    from launch.compose import compose
    from launch.local import run_ranks
    from launch.run_folder import prepare

    composed = compose(arguments.overrides)
    if arguments.dry_run:
        import yaml

        print(yaml.safe_dump({**composed.run, "cluster": composed.cluster}, sort_keys=False, allow_unicode=True), end="")
        return 0
    _check(composed.run)
    return run_ranks(prepare(composed), int(composed.cluster["ranks"]))


def _resume(arguments: argparse.Namespace) -> int:
    from launch.local import run_ranks
    from launch.run_folder import read_cluster

    cluster = read_cluster(arguments.folder)
    return run_ranks(arguments.folder.resolve(), arguments.ranks or int(cluster["ranks"]))


def _check(run: dict[str, object]) -> None:
    """Refuse a config that no rank could use before any process is started."""
    from ausl_dist.settings import from_mapping
    from ausl_dist.train.settings import RunSettings

    from_mapping(RunSettings, run)


if __name__ == "__main__":
    command.run(main)

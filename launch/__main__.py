"""`python -m launch`: check, start, stop and follow jobs.

python -m launch run experiment=demo                      this machine, one process per rank
python -m launch submit cluster=mysite experiment=...     a SLURM cluster; --dry-run shows what
python -m launch array cluster=mysite seed=0,1,2 ...      one run for each combination of settings
python -m launch corpus --parts 64 -- VIDEOS --out URL    build a corpus as an array of jobs
python -m launch doctor cluster=mysite experiment=...     all that can fail before a GPU is asked for
python -m launch status runs/demo                         how it goes; --watch keeps looking
python -m launch resume runs/demo                         go on from the newest whole checkpoint
python -m launch cancel runs/demo                         end it for good
python -m launch store DIR                                an object store on this machine, to try things
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ausl_dist import command
from ausl_dist.provenance import note_command


def main() -> int:
    arguments = _parser().parse_args()
    note_command(["python", "-m", "launch", *sys.argv[1:]])
    return int(arguments.call(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch", description="Check, start, stop and follow pretraining jobs."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(
        name: str, call: Callable[[argparse.Namespace], int], help: str
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=help, description=help)
        added.set_defaults(call=call)
        return added

    _start_options(
        verb("run", _run, "run a job on this machine"),
        verb("submit", _submit, "submit a job to SLURM"),
        verb(
            "array",
            _array,
            "submit one run for each combination of settings: "
            "seed=0,1 optimizer.learning_rate=1e-3,3e-4",
        ),
        verb("doctor", _doctor, "check everything that can fail before a GPU is asked for"),
    )
    _corpus_options(
        verb("corpus", _corpus, "build a corpus as an array of jobs, one for each part")
    )
    _folder_options(
        verb("resume", _resume, "go on with a run from its newest whole checkpoint"),
        verb("status", _status, "say how a run goes"),
        verb("cancel", _cancel, "end a run's jobs for good"),
    )
    store = verb("store", _store, "serve an object store on this machine until Ctrl-C")
    store.add_argument("folder", type=Path, help="where its data lie, and are found again")
    store.add_argument(
        "--bucket", default="corpora", help="made at the start, if it is not there"
    )
    return parser


def _start_options(
    run: argparse.ArgumentParser,
    submit: argparse.ArgumentParser,
    array: argparse.ArgumentParser,
    doctor: argparse.ArgumentParser,
) -> None:
    """Of the verbs that make a run of settings."""
    run.add_argument(
        "--dry-run", action="store_true", help="print the resolved config and stop"
    )
    submit.add_argument(
        "--dry-run", action="store_true", help="print the sbatch script and stop"
    )
    submit.add_argument(
        "--after", metavar="JOB", help="start only when this job has ended well"
    )
    then = (
        "run this on one node when the run is done ({run} stands for its folder); "
        "repeat for a chain"
    )
    submit.add_argument("--then", action="append", default=[], metavar="COMMAND", help=then)
    array.add_argument("--dry-run", action="store_true", help="print the combinations and stop")
    array.add_argument(
        "--at-once", type=int, default=16, help="how many of them may run at a time"
    )
    doctor.add_argument(
        "--on-node",
        action="store_true",
        help="inside a short job on the cluster's nodes as well",
    )
    for each in (run, submit, array, doctor):
        each.add_argument(
            "overrides",
            nargs="*",
            help="hydra overrides: experiment=demo optimizer.learning_rate=1e-3 ...",
        )


def _corpus_options(corpus: argparse.ArgumentParser) -> None:
    corpus.add_argument(
        "--cluster", default="slurm", metavar="NAME", help="a file of configs/cluster/"
    )
    corpus.add_argument(
        "--parts", type=int, required=True, help="how many jobs share the sources"
    )
    corpus.add_argument(
        "--at-once", type=int, default=64, help="how many of them may run at a time"
    )
    corpus.add_argument(
        "builder",
        nargs="+",
        metavar="WORD",
        help="after two dashes: inputs and options of python -m tools.build_corpus",
    )


def _folder_options(
    resume: argparse.ArgumentParser,
    status: argparse.ArgumentParser,
    cancel: argparse.ArgumentParser,
) -> None:
    """Of the verbs for a run that is there."""
    for each in (resume, status, cancel):
        each.add_argument("folder", type=Path, help="the run folder")
    resume.add_argument(
        "overrides",
        nargs="*",
        help="where it goes on, if elsewhere: cluster=NAME cluster.nodes=4 ...",
    )
    status.add_argument(
        "--watch", action="store_true", help="look again every few seconds until it has ended"
    )


def _run(arguments: argparse.Namespace) -> int:
    from launch.cluster import local_only
    from launch.compose import compose
    from launch.local import run_ranks
    from launch.prepare import done_already, prepare

    composed = compose(arguments.overrides)
    if arguments.dry_run:
        import yaml

        whole = {**composed.run, "cluster": composed.cluster}
        print(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), end="")
        print(composed.batch, file=sys.stderr)
        return 0
    cluster = local_only(composed.cluster, "run")
    print(composed.batch, file=sys.stderr)
    folder = prepare(composed)
    if said := done_already(folder):
        print(said)
        return 0
    return run_ranks(folder, cluster.ranks)


def _submit(arguments: argparse.Namespace) -> int:
    from launch import slurm
    from launch.cluster import slurm_only
    from launch.compose import compose
    from launch.prepare import prepare

    composed = compose(arguments.overrides)
    cluster = slurm_only(composed.cluster, "submit")
    name = str(composed.run["name"])
    if arguments.dry_run:
        print(slurm.script(cluster, name, Path(composed.run["folder"]).expanduser().resolve()))
        print(composed.batch, file=sys.stderr)
        return 0
    folder = prepare(composed)
    dependency = f"afterok:{arguments.after}" if arguments.after else None
    job = slurm.submit_run(folder, cluster, name, dependency=dependency)
    print(composed.batch)
    print(
        f"job {job}: {cluster.nodes} nodes, {cluster.ranks} ranks; follow it by `python -m launch "
        f"status {folder}`"
    )
    following = slurm.submit_chain(arguments.then, folder, cluster, name, job)
    for stage, each in zip(arguments.then, following, strict=True):
        print(f"job {each}: then `{stage}`")
    return 0


def _array(arguments: argparse.Namespace) -> int:
    from launch import slurm, sweep
    from launch.cluster import slurm_only
    from launch.prepare import prepare

    points = sweep.compose_points(arguments.overrides)
    if arguments.dry_run:
        print("\n".join(f"{point.run['folder']}: {point.batch}" for point in points))
        return 0
    cluster = slurm_only(points[0].cluster, "array")
    folders = [prepare(point) for point in points]
    for folder, job in zip(
        folders,
        slurm.submit_array(folders, cluster, str(points[0].run["name"]), arguments.at_once),
        strict=True,
    ):
        print(f"job {job}: {folder}")
    return 0


def _corpus(arguments: argparse.Namespace) -> int:
    from launch.cluster import slurm_only
    from launch.compose import compose_cluster
    from launch.corpus import submit_build

    cluster = slurm_only(compose_cluster(f"cluster={arguments.cluster}"), "corpus")
    ids, last = submit_build(arguments.builder, cluster, arguments.parts, arguments.at_once)
    print(
        f"jobs {ids[0]} to {ids[-1]} build the parts, job {last} sees to the whole; "
        "`squeue --me` lists them"
    )
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from launch.compose import compose
    from launch.doctor import examine

    return examine(compose(arguments.overrides), on_node=arguments.on_node)


def _resume(arguments: argparse.Namespace) -> int:
    from launch import slurm
    from launch.cluster import LocalCluster, read_settings
    from launch.local import run_ranks
    from launch.prepare import change_cluster, done_already, read_name

    folder = arguments.folder.resolve()
    cluster = read_settings(change_cluster(folder, arguments.overrides))
    if said := done_already(folder):
        print(said)
        return 0
    if isinstance(cluster, LocalCluster):
        return run_ranks(folder, cluster.ranks)
    job = slurm.submit_run(folder, cluster, read_name(folder))
    print(f"job {job} goes on with {folder}; follow it by `python -m launch status {folder}`")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from launch.status import show

    return show(arguments.folder.resolve(), watch=arguments.watch)


def _cancel(arguments: argparse.Namespace) -> int:
    from launch import scheduler, slurm
    from launch.prepare import read_cluster

    read_cluster(arguments.folder)  # says what is wrong where this is no run folder
    alive = [job for job in slurm.job_ids(arguments.folder) if scheduler.job_state(job).alive]
    if not alive:
        print(f"{arguments.folder} has no job that waits or runs")
        return 0
    scheduler.cancel(alive)
    print(
        f"cancelled: {', '.join(alive)}; `python -m launch resume {arguments.folder}` goes on from "
        "the newest checkpoint"
    )
    return 0


def _store(arguments: argparse.Namespace) -> int:
    import signal
    import threading

    from launch.object_store import ObjectStore

    told_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: told_to_end.set())
    with ObjectStore(arguments.folder) as store:
        store.make_bucket(arguments.bucket)
        served = f"s3://{arguments.bucket} is served from {arguments.folder} until Ctrl-C"
        print(f"# {served}; in the shell that uses it, type:")
        for name, value in store.environment.items():
            print(f"export {name}={value}", flush=True)
        told_to_end.wait()
    return 0


if __name__ == "__main__":
    command.run(main)

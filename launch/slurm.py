"""Submit a prepared run folder to SLURM through submitit.

    RUN/config.yaml, cluster.yaml ──▶ RUN/code/HASH (snapshot) ──▶ sbatch script ──▶ job,
        with one line in RUN/slurm/submissions.jsonl

submitit writes the script, pickles what each task calls (`RankJob`: only the run folder's path)
and starts it. Requeues are asked for by supervise.py, and a resume rests on the checkpoints on
disk alone: submitit's own checkpointing is not called when a job is preempted without a user
signal, and its `SUBMITIT_PREEMPT_SIGNAL=TERM` would bring cancelled jobs back.
"""

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ausl_dist.json_lines import append_json_line, read_json_lines
from ausl_dist.run_folder import SUBMISSIONS_FILE
from ausl_dist.settings import SettingsError
from launch import left_out, scheduler
from launch.child import TRAINER
from launch.cluster import SlurmCluster
from launch.snapshot import take_snapshot
from launch.supervise import Place, supervise

SHORT_MINUTES = 10
# requeues of a command; submitit takes every signal in a job's first ten minutes for a time
# limit
MAX_TIMEOUTS = 1000


class RankJob:
    """What every task of the job calls; holds no state, so that each requeue starts from the
    run folder alone.
    """

    def __init__(
        self, run_folder: Path, module: str = TRAINER, *, stand_by: bool = True
    ) -> None:
        self.run_folder, self.module, self.stand_by = str(run_folder), module, stand_by

    def __call__(self) -> None:
        folder, place = Path(self.run_folder), place_of_this_task()
        supervise(folder, place, self.module, stand_by=self.stand_by)

    def checkpoint(self) -> Any:
        """For submitit, if the signal comes in the instant before `supervise` listens: start
        again as at first.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class CommandJob:
    """A command of its own: a stage that follows a run, a part of a corpus.

    Fails when the command fails.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)

    def __call__(self) -> None:
        import subprocess
        import sys

        words = [sys.executable if word == "python" else word for word in self.command]
        print(shlex.join(words), flush=True)
        subprocess.run(words, check=True)

    def checkpoint(self) -> Any:
        """For submitit, before a time limit or a preemption: the command is requeued and goes
        on by what it left behind.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def place_of_this_task() -> Place:
    """This task's place, from the variables that Slurm sets."""
    from submitit.slurm.slurm import SlurmJobEnvironment

    job = SlurmJobEnvironment()
    # The raw id: it names one element of an array too, and scontrol takes it.
    return Place(
        job=job.raw_job_id,
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        rank=job.global_rank,
        local_rank=job.local_rank,
        hosts=tuple(job.hostnames),
        ranks_per_host=job.num_tasks // job.num_nodes,
    )


def parameters(
    cluster: SlurmCluster, name: str, workdir: Path, dependency: str | None = None
) -> dict[str, Any]:
    """The cluster's settings as submitit's parameters; absent ones are left to the site's
    defaults.
    """
    values: dict[str, Any] = {
        "job_name": name,
        "time": cluster.time_minutes,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.ranks_per_node,
        "cpus_per_task": cluster.cpus_per_rank,
        "signal_delay_s": cluster.signal_delay_seconds,
        "stderr_to_stdout": True,
        # A rank's end must not end the others before they have reported; srun does not inherit
        # the CPUs per task since Slurm 22.05.
        "srun_args": [
            "--kill-on-bad-exit=0",
            f"--cpus-per-task={cluster.cpus_per_rank}",
            *cluster.srun_arguments,
        ],
        "additional_parameters": {"requeue": True, "chdir": str(workdir), **cluster.sbatch},
    }
    if cluster.gpus_per_node:
        values["gpus_per_node"] = cluster.gpus_per_node
    if cluster.memory_gigabytes_per_node is not None:
        values["mem"] = f"{round(cluster.memory_gigabytes_per_node * 1024)}MB"
    # srun hands the first node's environment to every rank; what `setup` does comes after
    exports = [
        f"export {key}={shlex.quote(value)}" for key, value in cluster.environment.items()
    ]
    if exports or cluster.setup:
        values["setup"] = [*exports, *cluster.setup]
    optional = {"partition", "account", "qos", "constraint", "exclude"}
    values |= {
        key: getattr(cluster, key) for key in optional if getattr(cluster, key) is not None
    }
    if cluster.exclusive:
        values["exclusive"] = True
    if dependency is not None:
        values["dependency"] = dependency
    return values


def short(cluster: SlurmCluster) -> SlurmCluster:
    """The same nodes for SHORT_MINUTES: what a check needs, and what a scheduler fits in soon."""
    return replace(cluster, time_minutes=SHORT_MINUTES, signal_delay_seconds=60)


def script(cluster: SlurmCluster, name: str, run_folder: Path) -> str:
    """The sbatch script of a run, without submitting it; needs no Slurm on this machine."""
    import sys

    from submitit.slurm.slurm import _make_sbatch_string

    log_folder = Path(run_folder) / "slurm"
    python = cluster.python or shlex.quote(sys.executable)
    command = f"{python} -u -m submitit.core._submit {shlex.quote(str(log_folder))}"
    workdir = Path(run_folder) / "code"
    return _make_sbatch_string(
        command=command, folder=log_folder, **parameters(cluster, name, workdir)
    )


def submit_run(
    run_folder: Path,
    cluster: SlurmCluster,
    name: str,
    *,
    dependency: str | None = None,
    module: str = TRAINER,
) -> str:
    """Submit (or go on with) the run in `run_folder`; returns the job id.

    Refuses while an earlier job of the run is alive.
    """
    alive = [job for job in job_ids(run_folder) if scheduler.job_state(job).alive]
    if alive:
        raise SettingsError(
            f"job {alive[-1]} of {run_folder} is still there; follow it by `python -m launch "
            f"status {run_folder}`, "
            f"or end it first: `python -m launch cancel {run_folder}`"
        )
    cluster = left_out.leave_out(cluster, run_folder.parent / ".doctor")
    (job,) = submit(
        [RankJob(run_folder, module, stand_by=cluster.stand_by)],
        run_folder,
        cluster,
        name,
        dependency=dependency,
    )
    return job


def submit_array(
    run_folders: Sequence[Path],
    cluster: SlurmCluster,
    name: str,
    at_once: int,
    module: str = TRAINER,
) -> list[str]:
    """Submit several runs as one array; each element is requeued, followed and cancelled by
    itself.

    Returns the elements' ids.
    """
    parent = Path(os.path.commonpath(run_folders)) if len(run_folders) > 1 else run_folders[0]
    ids = submit(
        [RankJob(folder, module, stand_by=cluster.stand_by) for folder in run_folders],
        parent,
        cluster,
        name,
        at_once=at_once,
    )
    for folder, job in zip(run_folders, ids, strict=True):
        (folder / "slurm").mkdir(exist_ok=True)
        append_json_line(
            folder / SUBMISSIONS_FILE, {"time": time.time(), "jobs": [job], "name": name}
        )
    return ids


def submit_chain(
    commands: Sequence[str], run_folder: Path, cluster: SlurmCluster, name: str, after: str
) -> list[str]:
    """Submit commands that run one after the other on one node each, the first when job `after`
    has ended well; returns their ids.

    `{run}` in a command stands for the run folder.
    """
    one_task = replace(
        cluster,
        nodes=1,
        ranks_per_node=1,
        gpus_per_node=min(1, cluster.gpus_per_node),
        exclusive=False,
    )
    ids: list[str] = []
    for number, command in enumerate(commands, start=1):
        job = CommandJob(shlex.split(command.replace("{run}", str(run_folder))))
        dependency = f"afterok:{ids[-1] if ids else after}"
        folder = run_folder / "stages" / str(number)
        ids += submit([job], folder, one_task, f"{name}-{number}", dependency=dependency)
    return ids


def submit(
    jobs: Sequence[Any],
    folder: Path,
    cluster: SlurmCluster,
    name: str,
    *,
    dependency: str | None = None,
    at_once: int = 256,
) -> list[str]:
    """Submit callables as one job, or as an array where they are several, with a snapshot of
    the code; returns their ids.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    if not scheduler.available():
        raise SettingsError(
            "this machine has no Slurm (no sbatch); submit from a login node, "
            "or use `python -m launch run` here"
        )
    code = take_snapshot(folder)
    executor = SlurmExecutor(
        folder=folder / "slurm", python=cluster.python, max_num_timeout=MAX_TIMEOUTS
    )
    executor.update_parameters(
        **parameters(cluster, name, code, dependency), array_parallelism=at_once
    )
    try:
        if len(jobs) == 1:
            submitted = [executor.submit(jobs[0])]
        else:
            with executor.batch():
                submitted = [executor.submit(job) for job in jobs]
    except (FailedJobError, FailedSubmissionError) as error:
        raise SettingsError(f"Slurm refused the job: {error}") from error
    ids = [job.job_id for job in submitted]
    append_json_line(
        folder / SUBMISSIONS_FILE,
        {"time": time.time(), "jobs": ids, "name": name, "code": code.name},
    )
    return ids


def job_ids(folder: Path) -> list[str]:
    """All jobs that were submitted from a folder, oldest first."""
    path = Path(folder) / SUBMISSIONS_FILE
    return [
        job for line in (read_json_lines(path) if path.exists() else ()) for job in line["jobs"]
    ]

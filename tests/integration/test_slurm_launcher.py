"""What the launcher does when ranks, hosts and schedulers fail, on a real Slurm with stand-in
ranks that import no torch.
"""

import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from launch import scheduler
from launch.attempts import read_history
from launch.cluster import SlurmCluster
from launch.slurm import submit_array, submit_chain, submit_run
from launch.status import look
from tests.support.slurm_cluster import SlurmCluster as Fixture
from tests.support.slurm_cluster import kill

pytestmark = pytest.mark.timeout(300)
NEVER = 100000
SETTINGS = SlurmCluster(
    scheduler="slurm",
    nodes=2,
    ranks_per_node=1,
    cpus_per_rank=1,
    time_minutes=2,
    signal_delay_seconds=20,
)


@dataclass
class Case:
    """A submitted stand-in run."""

    folder: Path
    job: str

    def wait(self, seconds: float = 200.0) -> str:
        """The job's final state."""
        deadline = time.monotonic() + seconds
        while (state := scheduler.job_state(self.job)).alive:
            assert time.monotonic() < deadline, f"{state}\n{self.log()}"
            time.sleep(0.3)
        return state.state

    def until_step(self, step: int, seconds: float = 150.0) -> None:
        deadline = time.monotonic() + seconds
        path = self.folder / "metrics.jsonl"
        while not path.exists() or json.loads(path.read_text().splitlines()[-1])["step"] < step:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def history(self) -> list[dict[str, Any]]:
        return read_history(self.folder)

    def actions(self) -> list[str]:
        return [line["action"] for line in self.history()]

    def log(self) -> str:
        return "\n".join(
            path.read_text()[-3000:] for path in sorted((self.folder / "slurm").glob("*.out"))
        )

    def counted_to(self) -> int:
        return max(
            int(path.name.removeprefix("step-"))
            for path in (self.folder / "checkpoints").glob("step-*")
        )


def prepare_standin(
    folder: Path, *, steps: int, faults: tuple[dict[str, Any], ...] = (), save_every: int = 10
) -> Path:
    folder.mkdir(parents=True)
    standin = {
        "steps": steps,
        "step_seconds": 0.1,
        "save_every": save_every,
        "faults": list(faults),
    }
    (folder / "standin.json").write_text(json.dumps(standin))
    (folder / "cluster.yaml").write_text("scheduler: slurm\n")
    return folder


def start(
    folder: Path,
    *,
    steps: int = 40,
    faults: tuple[dict[str, Any], ...] = (),
    save_every: int = 10,
    **settings: Any,
) -> Case:
    prepare_standin(folder, steps=steps, faults=faults, save_every=save_every)
    return Case(
        folder,
        submit_run(
            folder,
            replace(SETTINGS, **settings),
            folder.name,
            module="tests.support.standin_rank",
        ),
    )


@pytest.fixture(scope="module")
def cases(slurm: Fixture, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """The cases that need no hand from outside run side by side: each is mostly waiting."""
    base = tmp_path_factory.mktemp("cases")
    broken = tuple({"rank": 1, "step": step, "kind": "error"} for step in (15, 25))
    return {
        "limit": start(base / "limit", steps=480, time_minutes=1, signal_delay_seconds=45),
        "killed": start(base / "killed", faults=({"rank": 1, "step": 15, "kind": "kill"},)),
        "hung": start(base / "hung", faults=({"rank": 1, "step": 15, "kind": "stop"},)),
        "hopeless": start(
            base / "hopeless", faults=({"rank": 0, "step": 15, "kind": "error", "times": 9},)
        ),
        "bad-host": start(base / "bad-host", faults=broken),
    }


def test_a_killed_rank_is_started_again_in_its_place(cases: dict[str, Case]) -> None:
    case = cases["killed"]
    assert case.wait() == "COMPLETED"
    assert case.actions() == ["again", "done"]
    assert "rank 1" in case.history()[0]["why"]
    assert "SIGKILL" in case.history()[0]["why"]
    assert "starts at step 10" in (case.folder / "logs" / "rank-0.log").read_text()


def test_a_hung_rank_leaves_its_stacks_and_the_run_goes_on(cases: dict[str, Case]) -> None:
    case = cases["hung"]
    assert case.wait() == "COMPLETED"
    first = case.history()[0]
    assert (first["end"], first["action"]) == ("hung", "again")
    log = (case.folder / "logs" / "rank-1.log").read_text()
    assert "most recent call first" in log
    assert "in inject" in log


def test_the_same_failure_at_the_same_step_three_times_stops_the_run_and_says_so(
    cases: dict[str, Case],
) -> None:
    case = cases["hopeless"]
    assert case.wait() == "FAILED"
    assert len(case.history()) == 3
    assert case.actions()[-1] == "stop"
    assert "failed 3 times in the same way at the same step" in case.log()
    assert "python -m launch resume" in case.log()
    assert "broken on purpose" in dict(look(case.folder, time.time()).rows)["stopped"]


def test_a_host_that_fails_twice_is_kept_out_of_the_next_attempt(
    cases: dict[str, Case],
) -> None:
    case = cases["bad-host"]
    assert case.wait() == "COMPLETED"
    requeued = next(line for line in case.history() if line["action"] == "requeue")
    assert requeued["excluded"] == [requeued["host"]]
    assert requeued["host"] not in scheduler.host_names(scheduler.job_state(case.job).nodes)
    assert requeued["host"] in dict(look(case.folder, time.time()).rows)["kept out"]


def test_a_signal_before_the_first_checkpoint_starts_the_run_over(
    slurm: Fixture, tmp_path: Path
) -> None:
    case = start(tmp_path / "early", save_every=NEVER, steps=20)
    # the ranks are being started: no handler is there yet
    while not (case.folder / "logs").is_dir():
        time.sleep(0.02)
    slurm.output("scancel", "--signal", "USR2", case.job)
    assert case.wait() == "COMPLETED"
    assert case.actions() == ["requeue", "done"]
    assert case.counted_to() == 20


def test_a_cancelled_job_saves_and_stays_cancelled(slurm: Fixture, tmp_path: Path) -> None:
    case = start(tmp_path / "cancelled", steps=NEVER)
    case.until_step(5)
    scheduler.cancel([case.job])
    assert case.wait() == "CANCELLED"
    time.sleep(8)  # longer than a requeued job waits for its start
    assert not slurm.output("squeue", "-h", "-j", case.job).strip()
    assert case.actions() == ["leave"]
    assert case.counted_to() >= 5


def test_a_preempted_job_saves_in_its_grace_time_and_goes_on(
    slurm: Fixture, tmp_path: Path
) -> None:
    case = start(tmp_path / "preempted", steps=60)
    case.until_step(12)
    slurm.run(
        "sbatch", "-p", "high", "-N4", "--exclusive", "--wrap", "sleep 2", "-o", "/dev/null"
    )
    assert case.wait() == "COMPLETED"
    assert case.actions() == ["requeue", "done"]
    first = case.history()[0]
    assert first["checkpoint_step"] >= first["step"] - 1 > 10


def test_a_controller_that_is_restarted_goes_unnoticed(slurm: Fixture, tmp_path: Path) -> None:
    case = start(
        tmp_path / "controller", steps=60, faults=({"rank": 1, "step": 30, "kind": "kill"},)
    )
    case.until_step(12)
    slurm.stop_controller()
    try:
        case.until_step(55)
    finally:
        slurm.start_controller()
    assert case.wait() == "COMPLETED"
    assert case.actions() == ["again", "done"]


def test_a_run_whose_job_is_alive_is_not_submitted_twice(
    slurm: Fixture, tmp_path: Path
) -> None:
    case = start(tmp_path / "twice", steps=NEVER)
    with pytest.raises(ValueError, match=f"job {case.job} .* launch cancel"):
        submit_run(case.folder, SETTINGS, "twice", module="tests.support.standin_rank")
    scheduler.cancel([case.job])
    case.wait()


def test_each_run_of_an_array_goes_its_own_way(slurm: Fixture, tmp_path: Path) -> None:
    folders = [
        prepare_standin(tmp_path / "sweep" / f"seed={seed}", steps=10 + seed)
        for seed in range(3)
    ]
    cluster = replace(SETTINGS, nodes=1)
    jobs = submit_array(
        folders, cluster, "sweep", at_once=2, module="tests.support.standin_rank"
    )
    cases = [Case(folder, job) for folder, job in zip(folders, jobs, strict=True)]
    assert [case.wait() for case in cases] == ["COMPLETED"] * 3
    assert [case.counted_to() for case in cases] == [10, 11, 12]
    assert all(
        "COMPLETED" in dict(look(folder, time.time()).rows)["state"] for folder in folders
    )


def test_a_chain_runs_its_stages_in_order_and_ends_with_the_first_that_fails(
    slurm: Fixture, tmp_path: Path
) -> None:
    case = start(tmp_path / "chain", steps=5)
    stages = ["touch {run}/first", "test -e {run}/nothing", "touch {run}/never"]
    jobs = submit_chain(stages, case.folder, SETTINGS, "chain", case.job)
    assert case.wait() == "COMPLETED"
    assert Case(case.folder, jobs[0]).wait() == "COMPLETED"
    assert Case(case.folder, jobs[1]).wait() == "FAILED"
    assert (case.folder / "first").exists()
    deadline = time.monotonic() + 60  # the controller looks at dependencies in its next round
    while scheduler.job_state(jobs[2]).reason != "DependencyNeverSatisfied":
        assert time.monotonic() < deadline, scheduler.job_state(jobs[2])
        time.sleep(0.5)
    scheduler.cancel([jobs[2]])


def test_a_time_limit_costs_nothing_but_the_requeue(cases: dict[str, Case]) -> None:
    case = cases["limit"]
    assert case.wait() == "COMPLETED", case.log()
    assert case.counted_to() == 480
    *before, last = case.history()
    assert before
    assert all(line["action"] == "requeue" for line in before)
    assert all(line["step"] - line["checkpoint_step"] <= 1 for line in before), (
        "steps were lost although there was a warning"
    )
    assert last["end"] == "finished"


def test_a_node_that_dies_costs_the_steps_since_the_last_checkpoint(
    slurm: Fixture, tmp_path: Path
) -> None:
    case = start(tmp_path / "node", steps=60)
    case.until_step(12)
    lost = scheduler.host_names(scheduler.job_state(case.job).nodes)[1]
    slurm.cut_node(lost)
    for process in slurm.task_processes():
        with suppress(OSError):  # it ended while we looked
            if (
                f"SLURMD_NODENAME={lost}".encode()
                in Path(f"/proc/{process}/environ").read_bytes()
            ):
                kill(process)
    slurm.declare_down(lost)
    try:
        assert case.wait() == "COMPLETED"
    finally:
        slurm.bring_back(lost)
    assert case.counted_to() == 60
    assert lost not in scheduler.host_names(scheduler.job_state(case.job).nodes)

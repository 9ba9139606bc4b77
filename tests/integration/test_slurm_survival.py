"""Real training of two nodes on a real Slurm: whatever a cluster does to it, it ends with the
weights of an undisturbed run.

The first puts the main cases into one run. The others take each case by itself, need minutes,
and run with AUSL_SLOW=1.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ausl_dist.run_folder import newest_whole_step
from launch import scheduler
from launch.attempts import last_step, read_history
from launch.cluster import SlurmCluster, slurm_only
from launch.compose import compose
from launch.doctor import examine
from launch.local import run_ranks
from launch.prepare import prepare
from launch.slurm import job_ids, submit_run
from tests.support.corpora import make_corpus
from tests.support.programs import absent
from tests.support.slurm_cluster import SlurmCluster as Fixture
from tests.support.slurm_cluster import missing

pytestmark = pytest.mark.timeout(600)
slow = pytest.mark.skipif(
    not os.environ.get("AUSL_SLOW"),
    reason="slow: set AUSL_SLOW=1 to run each survival case by itself",
)

STEPS, SAVE_EVERY = 40, 5
WAIT_SECONDS = 240.0


def training_words(folder: Path, corpus: Path) -> list[str]:
    """The settings of a small run of two nodes."""
    return [
        *(
            f"name={folder.name}",
            f"folder={folder}",
            f"steps={STEPS}",
            f"data.corpora.main.url={corpus}",
            "cluster=slurm_cpu",
        ),
        *(
            "data.lanes=2",
            "data.clips_per_lane=2",
            "data.image_size=32",
            "data.shuffle_window=8",
            "backbone=resnet10t",
        ),
        *(
            "objectives.temporal_ranking.n_far=2",
            "observe=off",
            f"checkpoint.every_steps={SAVE_EVERY}",
            "checkpoint.keep_last=20",
        ),
        "engine.collective_timeout_seconds=20",
    ]


class Training:
    """A real run of two ranks, on two nodes or on this machine."""

    def __init__(self, folder: Path, corpus: Path, *overrides: str) -> None:
        composed = compose([*training_words(folder, corpus), *overrides])
        self.folder = prepare(composed)
        self.steps = int(composed.run["steps"])
        self.cluster: SlurmCluster = slurm_only(composed.cluster, "this test")

    def submit(self) -> "Training":
        submit_run(self.folder, self.cluster, self.folder.name)
        return self

    @property
    def job(self) -> str:
        return job_ids(self.folder)[-1]

    def until_step(self, step: int) -> None:
        self.until(f"step {step}", lambda: last_step(self.folder) >= step)

    def wait(self, seconds: float = WAIT_SECONDS) -> str:
        self.until("its end", lambda: not scheduler.job_state(self.job).alive, seconds)
        return scheduler.job_state(self.job).state

    def rank_process(self, slurm: Fixture, rank: int) -> int:
        """The process id of a rank that trains."""
        for process in slurm.task_processes():
            if b"ausl_dist.train" in Path(f"/proc/{process}/cmdline").read_bytes():
                variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                if (
                    f"RANK={rank}".encode() in variables
                    and f"SLURM_JOB_ID={self.job}".encode() in variables
                ):
                    return process
        raise AssertionError(f"rank {rank} does not run\n{self.log()}")

    def weights(self) -> bytes:
        return (
            self.folder / "checkpoints" / f"step-{self.steps:08d}" / "backbone.safetensors"
        ).read_bytes()

    def actions(self) -> list[str]:
        return [line["action"] for line in read_history(self.folder)]

    def log(self) -> str:
        files = sorted((self.folder / "slurm").glob("*.out")) + sorted(
            (self.folder / "logs").glob("*.log")
        )
        return "\n".join(f"== {path.name}\n{path.read_text()[-1500:]}" for path in files)

    def until(
        self, what: str, reached: Callable[[], bool], seconds: float = WAIT_SECONDS
    ) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < deadline, f"waiting for {what}\n{self.log()}"
            time.sleep(0.5)  # each look may start a program


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), clips=16, frames=20, size=48)


@pytest.fixture(scope="module")
def undisturbed(
    slurm: Fixture, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """The weights after an undisturbed run on this machine: on a cluster nothing may differ."""
    training = Training(tmp_path_factory.mktemp("reference") / "run", corpus)
    assert run_ranks(training.folder, 2) == 0
    return training.weights()


def preempt(slurm: Fixture) -> None:
    slurm.run(
        "sbatch", "-p", "high", "-N4", "--exclusive", "--wrap", "sleep 1", "-o", "/dev/null"
    )


def test_a_run_that_is_killed_preempted_and_cancelled_ends_with_the_weights_of_an_undisturbed_one(
    slurm: Fixture, corpus: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", corpus).submit()
    training.until_step(8)
    os.kill(training.rank_process(slurm, 1), signal.SIGKILL)
    training.until_step(14)
    preempt(slurm)
    training.until_step(25)
    scheduler.cancel([training.job])
    assert training.wait() == "CANCELLED"
    saved = newest_whole_step(training.folder)
    assert saved >= 25, "the cancelled run did not save"
    training.submit()
    assert training.wait() == "COMPLETED", training.log()
    actions = training.actions()
    # Where saving takes longer than the grace time, Slurm is the one that requeues.
    assert (actions[0], actions[-1]) == ("again", "done")
    assert len(list((training.folder / "fence").glob("*.json"))) >= 4
    assert training.weights() == undisturbed


def test_the_doctor_examines_the_nodes_with_the_ranks_of_the_run(
    slurm: Fixture,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the nodes are one machine, and take its cores from each other
    monkeypatch.setattr("launch.doctor.SLOW_SHARE", 0.0)
    words = training_words(tmp_path / "run", corpus)
    assert examine(compose(words), on_node=True) == 0, capsys.readouterr().out
    said = " ".join(capsys.readouterr().out.split())  # cells break where they are too long
    assert "2 of 2" in said
    assert "Gbit/s a rank" in said
    assert "GiB are free" in said
    left = {path.name for path in (tmp_path / ".doctor").iterdir()}
    assert left == {"unfit.json"}, "the folder of a job that went well is removed"


@slow
@pytest.mark.timeout(1000)
def test_time_limits(slurm: Fixture, corpus: Path, tmp_path: Path) -> None:
    steps = "steps=200"  # longer than the limit
    reference = Training(tmp_path / "reference", corpus, steps)
    assert run_ranks(reference.folder, 2) == 0
    training = Training(
        tmp_path / "run",
        corpus,
        steps,
        "cluster.time_minutes=1",
        "cluster.signal_delay_seconds=30",
    ).submit()
    assert training.wait(3 * WAIT_SECONDS) == "COMPLETED", training.log()
    assert "requeue" in training.actions()
    assert training.weights() == reference.weights()


@slow
def test_a_hung_rank(slurm: Fixture, corpus: Path, undisturbed: bytes, tmp_path: Path) -> None:
    training = Training(tmp_path / "run", corpus).submit()
    training.until_step(8)
    os.kill(training.rank_process(slurm, 1), signal.SIGSTOP)
    assert training.wait() == "COMPLETED", training.log()
    first = read_history(training.folder)[0]
    assert (first["end"], first["action"]) == ("hung", "again")
    assert "most recent call first" in (training.folder / "logs" / "rank-1.log").read_text()
    assert training.weights() == undisturbed


@slow
def test_a_node_that_is_cut_off_leaves_an_orphan_that_changes_nothing(
    slurm: Fixture, corpus: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", corpus).submit()
    training.until_step(8)
    cut = scheduler.host_names(scheduler.job_state(training.job).nodes)[1]
    rank = training.rank_process(slurm, 1)
    task = int(Path(f"/proc/{rank}/stat").read_text().rsplit(")", 1)[1].split()[1])
    # they sleep through the takeover and wake up beside the new attempt
    for orphan in (
        task,
        rank,
    ):
        os.kill(orphan, signal.SIGSTOP)
    slurm.cut_node(cut)
    try:
        training.until(
            "the takeover", lambda: len(list((training.folder / "fence").glob("*.json"))) == 2
        )
        for orphan in (task, rank):
            os.kill(orphan, signal.SIGCONT)
        assert training.wait() == "COMPLETED", training.log()
    finally:
        slurm.start_node(cut)
    assert training.weights() == undisturbed
    assert last_step(training.folder) == STEPS - 1


@slow
def test_a_requeue_before_the_first_checkpoint(
    slurm: Fixture, corpus: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", corpus).submit()
    training.until_step(1)
    slurm.output("scontrol", "requeue", training.job)
    training.until("the requeue", lambda: scheduler.job_state(training.job).state == "PENDING")
    assert training.wait() == "COMPLETED", training.log()
    assert training.weights() == undisturbed


@slow
def test_a_controller_that_is_restarted(
    slurm: Fixture, corpus: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", corpus).submit()
    training.until_step(6)
    slurm.stop_controller()
    try:
        os.kill(training.rank_process(slurm, 0), signal.SIGKILL)
        training.until_step(STEPS - 5)
    finally:
        slurm.start_controller()
    assert training.wait() == "COMPLETED", training.log()
    assert training.weights() == undisturbed


@pytest.fixture
def without_user_signal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fixture]:
    """A cluster whose preemption sends SIGTERM alone, as most do."""
    if missing():
        absent(missing())
    with Fixture(tmp_path_factory.mktemp("quiet"), user_signal=False) as cluster:
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(cluster.configuration)
        yield cluster
        os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)


@slow
def test_preemption_by_sigterm_alone(
    undisturbed: bytes, without_user_signal: Fixture, corpus: Path, tmp_path: Path
) -> None:
    training = Training(tmp_path / "run", corpus).submit()
    training.until_step(8)
    preempt(without_user_signal)
    assert training.wait() == "COMPLETED", training.log()
    first = read_history(training.folder)[0]
    assert (first["end"], first["action"]) == ("saved", "requeue")
    assert training.weights() == undisturbed

"""What is handed to Slurm, and what of the code goes with it; needs no Slurm."""

import subprocess
import sys
from pathlib import Path

import pytest

from launch.cluster import SlurmCluster, read_settings
from launch.slurm import Place, script
from launch.snapshot import take_snapshot


def test_the_job_script_says_what_the_cluster_config_says(tmp_path: Path) -> None:
    settings = {
        "partition": "gpu",
        "account": "faces",
        "qos": "long",
        "constraint": "a100",
        "exclude": "bad1",
        "setup": ("module load x",),
        "environment": {"NCCL_IB_TIMEOUT": "22", "NOTE": "two words"},
    }
    cluster = SlurmCluster(
        scheduler="slurm",
        nodes=3,
        ranks_per_node=8,
        gpus_per_node=8,
        cpus_per_rank=6,
        time_minutes=90,
        exclusive=True,
        **settings,
    )
    text = script(cluster, "faces", tmp_path)
    for line in (
        "--nodes=3",
        "--ntasks-per-node=8",
        "--gpus-per-node=8",
        "--cpus-per-task=6",
        "--time=90",
        "--exclusive",
        "--requeue",
    ):
        assert f"#SBATCH {line}" in text
    exports = [
        text.index(f"export {each}") for each in ("NCCL_IB_TIMEOUT=22", "NOTE='two words'")
    ]
    assert max(exports) < text.index("module load x"), "what the site's setup says comes last"
    for key in ("partition", "account", "qos", "constraint", "exclude"):
        assert f"#SBATCH --{key}={settings[key]}" in text
    assert "module load x" in text
    assert "#SBATCH --signal=USR2@180" in text
    assert "srun --unbuffered" in text
    assert "--cpus-per-task=6" in text.split("# command")[1], (
        "srun does not inherit the CPUs of a task"
    )
    assert f"--chdir={tmp_path / 'code'}" in text


def test_what_a_site_does_not_demand_is_left_to_its_defaults(tmp_path: Path) -> None:
    cluster = SlurmCluster(
        scheduler="slurm", nodes=1, ranks_per_node=1, cpus_per_rank=1, time_minutes=10
    )
    text = script(cluster, "faces", tmp_path)
    demands = (
        "partition",
        "account",
        "qos",
        "constraint",
        "exclude",
        "exclusive",
        "gpus-per-node",
        "mem",
    )
    assert not any(f"--{key}" in text for key in demands)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpus_per_node": 4}, "cluster.ranks_per_node=4|set cluster.ranks_per_node=4"),
        ({"time_minutes": 2}, "longer cluster.time_minutes"),
        ({"nodes": 0}, "nodes=0"),
        ({"partitoin": "gpu"}, "did you mean cluster.partition"),
        ({"scheduler": "pbs"}, "local or slurm"),
    ],
)
def test_an_impossible_cluster_is_refused_with_what_to_type(
    wrong: dict[str, object], said: str
) -> None:
    good = {
        "scheduler": "slurm",
        "nodes": 1,
        "ranks_per_node": 2,
        "cpus_per_rank": 1,
        "time_minutes": 10,
    }
    with pytest.raises(ValueError, match=said):
        read_settings(good | wrong)


def test_the_host_of_every_rank_is_known_without_asking() -> None:
    place = Place(job="7", restart=0, rank=3, local_rank=1, hosts=("a", "b"), ranks_per_host=2)
    assert place.ranks == {0: "a", 1: "a", 2: "b", 3: "b"}


def test_later_edits_of_the_checkout_do_not_reach_the_snapshot(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "launch" / "__pycache__").mkdir(parents=True)
    (checkout / "launch" / "a.py").write_text("old")
    (checkout / "launch" / "__pycache__" / "a.pyc").write_text("x")
    run = tmp_path / "run"
    first = take_snapshot(run, checkout)
    assert take_snapshot(run, checkout) == first, "the same code is stored once"
    (checkout / "launch" / "a.py").write_text("new")
    second = take_snapshot(run, checkout)
    assert second != first
    assert (first / "launch" / "a.py").read_text() == "old"
    assert not list(run.rglob("*.pyc"))


def test_launch_answers_on_a_login_node_without_importing_torch() -> None:
    code = (
        "import sys, launch.__main__, launch.slurm, launch.status, launch.compose, "
        "launch.sweep; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

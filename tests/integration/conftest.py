"""The Slurm cluster that the tests of this folder share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import absent
from tests.support.slurm_cluster import SlurmCluster, missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Four nodes on loopback; this process's environment points at them."""
    reason = missing()
    if reason:
        absent(reason)
    # Jobs write into run folders below pytest's, whose own base is closed to other users.
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        # Ranks of a stand-in import it from here; tasks inherit the environment of sbatch.
        added = {**cluster.environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)
        yield cluster
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})

"""Fixtures for the whole suite: real servers, the face videos, and a clean /dev/shm."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["AUSL_OBJECTIVES"] = "tests"  # objectives that tests define


# The files that take longest, longest first: a worker that takes up one of them last would leave
# the other without work.
LONGEST = (
    "integration/test_stream_faults.py",
    "integration/test_slurm_launcher.py",
    "train/test_kill.py",
    "integration/test_faults_live.py",
    "corpus/test_build.py",
    "contract/test_objective_contract.py",
    "train/test_engine.py",
    "train/test_teacher.py",
    "train/test_rewind.py",
    "integration/test_experiments.py",
    "stream/test_truth.py",
    "integration/test_slurm_survival.py",
    "integration/test_kill_trial.py",
    "test_bench_gpu.py",
    "corpus/test_lock.py",
    "release/test_fuzz.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a file, and of all others, the order stays."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def faces() -> Path:
    """The folder of real face videos and models; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("AUSL_FACES", ROOT.parent / "shared" / "faces"))
    if not (folder / "video").is_dir():
        pytest.skip(
            "no face videos: set AUSL_FACES to a folder with video/, models/ and ict_facekit/"
        )
    return folder


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator["object"]:
    """An S3-compatible server on loopback, its credentials in the environment."""
    from launch.object_store import ObjectStore

    with ObjectStore(tmp_path_factory.mktemp("object-store")) as store:
        before = {name: os.environ.get(name) for name in store.environment}
        os.environ.update(store.environment)
        yield store
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})

"""Fixtures for the whole suite: real servers, the face videos, and a clean /dev/shm."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["AUSL_OBJECTIVES"] = "tests"  # objectives that tests define


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

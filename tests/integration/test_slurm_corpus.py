"""A corpus built as an array of jobs on a real Slurm is, to the byte, the one that this machine
builds by itself.
"""

import shutil
import time
from pathlib import Path

import pytest

from ausl_dist.corpus.build import BuildJob, build
from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.sources import collect
from launch import corpus, scheduler
from launch.cluster import SlurmCluster
from tests.support.slurm_cluster import SlurmCluster as Fixture

pytestmark = pytest.mark.timeout(600)
SETTINGS = SlurmCluster(
    scheduler="slurm",
    nodes=1,
    ranks_per_node=1,
    cpus_per_rank=1,
    time_minutes=15,
    signal_delay_seconds=20,
)
VIDEOS = (
    "intel-iot-devkit__sample-videos__eat.mkv",
    "intel-iot-devkit__sample-videos__want.mkv",
)
PARTS = 2


def test_an_array_builds_what_one_machine_builds(
    slurm: Fixture, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, out, alone = (
        tmp_path / "videos",
        tmp_path / "array" / "faces",
        tmp_path / "alone" / "faces",
    )
    videos.mkdir()
    for name in VIDEOS:
        shutil.copy(faces / "video" / name, videos / name)
    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "runs")
    words = [str(videos), "--out", str(out), "--models", str(faces / "models")]
    ids, last = corpus.submit_build(words, SETTINGS, PARTS, PARTS)
    assert len(ids) == PARTS

    sources = tuple(collect([str(videos)], layout("plain")).sources)
    for part in range(PARTS):
        build(
            BuildJob(
                "faces",
                sources,
                str(alone),
                tmp_path / f"work-{part}",
                models=faces / "models",
                part=part,
                parts=PARTS,
            )
        )

    deadline = time.monotonic() + 500
    while (state := scheduler.job_state(last)).alive:
        assert time.monotonic() < deadline, logs(tmp_path)
        time.sleep(0.5)
    assert state.state == "COMPLETED", logs(tmp_path)
    assert contents(out) == contents(alone)
    assert {name for name in contents(out) if name.endswith(".tar")} == {
        f"shard-{part:03d}-000000.tar" for part in range(PARTS)
    }


def contents(corpus_folder: Path) -> dict[str, bytes]:
    files = (
        path
        for path in corpus_folder.rglob("*")
        if path.is_file() and ".build" not in path.parts
    )
    return {path.relative_to(corpus_folder).as_posix(): path.read_bytes() for path in files}


def logs(folder: Path) -> str:
    return "\n".join(
        path.read_text(errors="replace")[-2000:] for path in sorted(folder.rglob("*.out"))
    )

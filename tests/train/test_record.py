"""A run's record must say of each attempt when it began and ended, and on what it ran."""

from pathlib import Path
from typing import Any

import torch

from ausl_dist.files import read_json
from ausl_dist.train import machine
from ausl_dist.train.machine import by_host, describe_machine
from ausl_dist.train.record import note_end, note_start


def start(folder: Path, attempt: int) -> None:
    note_start(
        folder,
        attempt=attempt,
        start_step=0,
        resumed_from=None,
        hosts=["node7"],
        machines=by_host([("node7", describe_machine(torch.device("cpu")))]),
        corpora={},
    )


def starts(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(folder / "record.json")["starts"]
    return found


def test_an_attempt_has_an_end_once_it_has_ended_and_a_killed_one_never(tmp_path: Path) -> None:
    start(tmp_path, 1)
    assert starts(tmp_path)[0]["ended"] is None
    start(tmp_path, 2)
    note_end(tmp_path, 2, 40, "done")
    killed, done = starts(tmp_path)
    assert killed["ended"] is None
    assert (done["ended"]["step"], done["ended"]["how"]) == (40, "done")
    assert done["time"] <= done["ended"]["time"]
    assert {"command", "commit", "code", "packages"} <= done.keys()
    assert done["machines"]["node7"]["cores"] >= 1
    assert done["machines"]["node7"]["cpu"]


def test_a_host_stands_once_with_the_gpus_of_all_its_ranks() -> None:
    rank = {"cpu": "A CPU", "cores": 64, "gpu": "NVIDIA H100", "driver": "580.65.06"}
    told = by_host([("a", rank), ("a", rank), ("b", rank)])
    assert told["a"]["gpus"] == ["NVIDIA H100"] * 2
    assert told["b"] == {
        "cpu": "A CPU",
        "cores": 64,
        "driver": "580.65.06",
        "gpus": ["NVIDIA H100"],
    }


def test_the_drivers_version_is_read_as_the_kernel_says_it(tmp_path: Path) -> None:
    said = tmp_path / "version"
    for text in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build",
    ):
        said.write_text(f"{text}\nGCC version: 13.2.0\n")
        assert machine._driver_version(said) == "550.54.14"
    assert machine._driver_version(tmp_path / "none") is None

"""A trace must be had from a run that is under way, of the rank one asks for, and cost nothing
otherwise.
"""

import gzip
import json
from pathlib import Path

import pytest
import torch

from ausl_dist.observe.profiler import Profiler
from ausl_dist.observe.settings import ProfileSettings


def train(profiler: Profiler, steps: range) -> list[dict[str, object]]:
    written = []
    for step in steps:
        torch.ones(32, 32) @ torch.ones(32, 32)
        fields = profiler.step(step)
        written += [] if fields is None else [fields]
    return written


def test_touching_a_file_profiles_the_next_steps_of_rank_0(tmp_path: Path) -> None:
    profiler = Profiler(ProfileSettings(steps=3), tmp_path, rank=0)
    assert train(profiler, range(2)) == []
    (tmp_path / "profile").touch()
    profiler.look_for_request()
    assert not (tmp_path / "profile").exists()
    (fields,) = train(profiler, range(2, 10))
    assert fields == {"step": 3, "steps": 3, "path": "profiles/step-00000003-rank-00000"}
    with gzip.open(tmp_path / str(fields["path"]) / "trace.json.gz") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert names.count("aten::mm") == 3
    assert "aten::mm" in (tmp_path / str(fields["path"]) / "operators.txt").read_text()


def test_a_request_may_name_rank_and_steps(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("3 2\n")
    others, asked = (
        Profiler(ProfileSettings(), tmp_path, rank=0),
        Profiler(ProfileSettings(), tmp_path, rank=3),
    )
    others.look_for_request()
    assert (tmp_path / "profile").exists()
    asked.look_for_request()
    assert train(others, range(4)) == []
    assert train(asked, range(4))[0]["steps"] == 2


@pytest.mark.parametrize("request_text", ["all", "0 100000", "0 1 2", "-1"])
def test_a_request_that_is_not_understood_is_answered_and_taken_away(
    tmp_path: Path, request_text: str
) -> None:
    (tmp_path / "profile").write_text(request_text)
    assert "RANK STEPS" in Profiler(ProfileSettings(), tmp_path, rank=0).look_for_request()
    assert not (tmp_path / "profile").exists()


def test_the_config_may_name_a_step_and_a_run_that_ends_early_still_writes(
    tmp_path: Path,
) -> None:
    profiler = Profiler(ProfileSettings(at_step=4, steps=100), tmp_path, rank=0)
    assert train(profiler, range(7)) == []
    fields = profiler.close()
    assert fields == {"step": 4, "steps": 3, "path": "profiles/step-00000004-rank-00000"}
    assert (tmp_path / str(fields["path"]) / "trace.json.gz").exists()

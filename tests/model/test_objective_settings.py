"""A config may come from somebody else: what it may build, and that nothing else runs."""

import os
from pathlib import Path
from typing import Any

import pytest

from ausl_dist.model.objective_settings import build_objective, complete
from ausl_dist.settings import SettingsError

RANKING = "ausl_dist.objectives.temporal_ranking.TemporalRanking"
CODE = "raise SystemExit('the module was imported')\nclass Objective: ...\n"


def write(path: Path) -> dict[str, Any]:
    """A part that, called, would leave a file behind."""
    return {"_target_": "pathlib.Path.write_text", "self": str(path), "data": "run"}


@pytest.mark.parametrize("where", ["margin", "view", "n_far"])
def test_a_part_that_is_code_is_refused_and_does_not_run(tmp_path: Path, where: str) -> None:
    made = tmp_path / "made"
    made.touch()
    with pytest.raises(SettingsError, match="is no part of an objective"):
        build_objective({"_target_": RANKING, where: write(made)}, feature_dim=8)
    assert made.read_text() == ""


def test_code_deep_inside_lists_and_groups_is_refused(tmp_path: Path) -> None:
    deep = {"view": {"crop": [0.5, {"here": [write(tmp_path / "made")]}]}}
    with pytest.raises(SettingsError, match=r"write_text.* is no part"):
        build_objective({"_target_": RANKING, **deep}, feature_dim=8)


@pytest.mark.parametrize(
    "target",
    [
        "numpy.load",
        "torch.load",
        "os.system",
        "builtins.eval",
        "pathlib.Path",
        "somewhere_else.Objective",
        "ausl_dist.objectives_of_others.Objective",
        "",
    ],
)
def test_what_comes_from_elsewhere_is_refused_before_it_is_imported(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somewhere_else.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match="export AUSL_OBJECTIVES="):
        build_objective({"_target_": target}, feature_dim=8)


@pytest.mark.parametrize(
    "target",
    [
        "ausl_dist.objectives.base.gather",  # a function
        "ausl_dist.objectives.base.torch.load",
        "ausl_dist.objectives.base.Loss",  # a class, but no objective
        "ausl_dist.objectives.base.nothing",
    ],
)
def test_only_objectives_are_built(target: str) -> None:
    with pytest.raises(SettingsError):
        build_objective({"_target_": target}, feature_dim=8)


@pytest.mark.parametrize("key", ["_args_", "_partial_", "_recursive_", "_convert_"])
def test_there_are_no_other_special_keys(key: str) -> None:
    with pytest.raises(SettingsError, match=f"unknown setting {key}"):
        build_objective({"_target_": RANKING, key: True}, feature_dim=8)


def test_a_module_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        SettingsError, match=r"did you mean ausl_dist\.objectives\.temporal_ranking"
    ):
        build_objective({"_target_": "ausl_dist.objectives.temporal_rankin.X"}, feature_dim=8)


def test_packages_that_the_user_trusts_are_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUSL_OBJECTIVES", "tests")
    target = {"_target_": "tests.support.troubled.Troubled", "control": os.devnull, "n_far": 3}
    assert complete(target, "mine")["n_far"] == 3
    assert complete(target, "mine")["margin"] == 0.03, "of the class that ** hands on to"
    assert build_objective(target, feature_dim=8)
    monkeypatch.setenv("AUSL_OBJECTIVES", "")
    with pytest.raises(SettingsError, match=r"export AUSL_OBJECTIVES=tests\.support\.troubled"):
        build_objective(target, feature_dim=8)


def test_a_view_of_an_older_run_folder_is_still_read() -> None:
    view = {"_target_": "ausl_dist.batch.View", "flip": 0.5}
    (needs,) = {
        view.flip
        for view in build_objective({"_target_": RANKING, "view": view}, feature_dim=8)
        .needs()
        .views
    }
    assert needs == 0.5

"""Defaults are written once, in the code: a key of configs/ says what differs from them."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ausl_dist.evaluate.protocol import ProtocolSettings
from ausl_dist.model.objective_settings import TARGET, complete
from ausl_dist.settings import with_defaults
from launch.compose import CONFIGS, completed

# Groups whose files choose a part of a run, and the word that chooses one of them.
GROUPS = (
    "backbone",
    "checkpoint",
    "cluster",
    "data",
    "engine",
    "experiment",
    "observe",
    "online",
)
GROUPS += ("optimizer",)
# What a file is named after may stand in it, even where it is the default.
NAMESAKES = {
    ("engine/zero1", ("engine", "zero_stage")),
    ("optimizer/adamw", ("optimizer", "kind")),
    ("eval/linear", ("protocol",)),
}

Path_ = tuple[str, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every setting by its path; a view is one setting, which several objectives may share
    whole.
    """
    is_view = bool(path) and path[-1].endswith("view")
    if isinstance(value, Mapping) and value and not is_view:
        for name, item in value.items():
            yield from leaves(item, (*path, str(name)))
    else:
        yield path, value


def own_keys(file: Path) -> dict[str, Any]:
    values = yaml.safe_load(file.read_text()) or {}
    return {name: value for name, value in values.items() if name != "defaults"}


def files(*groups: str) -> list[str]:
    return [
        f"{group}/{path.stem}" for group in groups for path in (CONFIGS / group).glob("*.yaml")
    ]


def repeats(name: str, own: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The keys of `own` that say what holds without them."""
    known = dict(leaves(defaults))
    found = []
    for path, value in leaves(own):
        with_it = {**known.get(path, {}), **value} if isinstance(value, Mapping) else value
        if path in known and known[path] == with_it and (name, path) not in NAMESAKES:
            found.append(".".join(path))
    return found


@pytest.mark.parametrize("name", files(*GROUPS))
def test_no_key_of_a_run_repeats_what_holds_without_it(name: str, tmp_path: Path) -> None:
    group, _, choice = name.partition("/")
    own = own_keys(CONFIGS / f"{name}.yaml")
    whole = own if group == "experiment" else {group: own}
    configs = Path(shutil.copytree(CONFIGS, tmp_path / "configs"))
    emptied = configs / f"{name}.yaml"
    kept = ["# @package _global_"] if group == "experiment" else []
    defaults = (yaml.safe_load(emptied.read_text()) or {}).get("defaults")
    kept.append(yaml.safe_dump({"defaults": defaults} if defaults else {}))
    if group == "cluster" and "scheduler" in own:
        kept = [f"scheduler: {own['scheduler']}"]
    emptied.write_text("\n".join(kept))
    without = completed([f"{group}={choice}"], configs)
    scheduler = [("cluster", "scheduler")]
    found = repeats(name, whole, without)
    assert [key for key in found if tuple(key.split(".")) not in scheduler] == []


@pytest.mark.parametrize("name", files("objective"))
def test_no_key_of_an_objective_repeats_its_constructor(name: str) -> None:
    own = own_keys(CONFIGS / f"{name}.yaml")
    defaults = complete({TARGET: own.pop(TARGET)}, name)
    assert repeats(name, own, defaults) == []


@pytest.mark.parametrize("name", files("eval"))
def test_no_key_of_an_evaluation_repeats_a_default(name: str) -> None:
    assert (
        repeats(name, own_keys(CONFIGS / f"{name}.yaml"), with_defaults(ProtocolSettings, {}))
        == []
    )


def test_the_image_size_is_written_once() -> None:
    """A network is built for the pictures it gets: nobody has to say their size twice."""
    run = completed(["experiment=predictive_coding"])
    assert run["backbone"]["image_size"] == "${data.image_size}"
    named = [
        path.name
        for path in (CONFIGS / "backbone").glob("*")
        if "image_size" in path.read_text()
    ]
    assert named == []

"""Sweeps: which runs a line of overrides stands for."""

import pytest

from launch.sweep import MAX_POINTS, compose_points

BASE = ["name=sweep", "folder=runs/sweep", "steps=10", "data.corpora.main.url=/corpus"]


def test_every_combination_gets_its_own_config_and_folder() -> None:
    points = compose_points([*BASE, "seed=0,1", "optimizer.learning_rate=1e-3,3e-4,1e-4"])
    assert len({point.run["folder"] for point in points}) == 6
    assert {
        (point.run["seed"], point.run["optimizer"]["learning_rate"]) for point in points
    } == {(seed, rate) for seed in (0, 1) for rate in (1e-3, 3e-4, 1e-4)}
    assert points[0].run["folder"] == "runs/sweep/seed=0,learning_rate=0.001"


def test_groups_can_be_swept() -> None:
    points = compose_points([*BASE, "backbone=resnet10t,resnet18"])
    assert [point.run["folder"] for point in points] == [
        "runs/sweep/backbone=resnet10t",
        "runs/sweep/backbone=resnet18",
    ]
    assert points[0].run["backbone"]["name"] != points[1].run["backbone"]["name"]


def test_a_line_without_anything_to_vary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing varies.*seed=0,1,2"):
        compose_points(BASE)


def test_a_sweep_larger_than_an_array_is_refused_before_it_is_composed() -> None:
    with pytest.raises(ValueError, match=f"more than the {MAX_POINTS}"):
        compose_points([*BASE, "seed=range(0,40)", "optimizer.learning_rate=range(1,40)"])

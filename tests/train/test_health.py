"""Collapse shows in the numbers, and healthy features do not look collapsed."""

import math

import torch

from ausl_dist.train.health import feature_health


def test_spread_features_are_healthy() -> None:
    torch.manual_seed(0)
    health = feature_health(torch.randn(256, 32))
    assert 0.9 < health["feature_std"] < 1.1
    assert health["effective_rank"] > 28
    assert health["uniformity"] < -3


def test_equal_features_are_collapsed() -> None:
    health = feature_health(torch.ones(64, 32) + 1e-7 * torch.randn(64, 32))
    assert health["feature_std"] < 1e-3
    assert health["effective_rank"] < 1.5
    assert abs(health["uniformity"]) < 1e-3


def test_features_on_a_line_have_rank_one_even_with_a_large_common_mean() -> None:
    torch.manual_seed(0)
    line = 10 * torch.ones(64, 32) + torch.randn(64, 1) * torch.randn(1, 32)
    assert feature_health(line)["effective_rank"] < 1.3


def test_nothing_is_said_of_one_row_or_of_what_is_not_finite() -> None:
    assert feature_health(torch.randn(1, 8)) == {}
    assert feature_health(torch.full((4, 8), math.nan)) == {}

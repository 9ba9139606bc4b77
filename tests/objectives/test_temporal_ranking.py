"""Temporal ranking against a second implementation from the formula, and the paper's
invariants.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ausl_dist.batch import View
from ausl_dist.objectives.base import BatchView
from ausl_dist.objectives.temporal_ranking import TemporalRanking, ranking_loss
from tests.support.tiny import make_batch, make_model

N, MARGIN = 10, 0.03


def by_hand(
    features: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Lu et al.'s loss of pooled features B 2+N D, and its gradient by the features, in plain
    NumPy.

    L = 1/B sum_b sum_i max(0, d(a, x_{i-1}) - d(a, x_i) + margin),  d(u, v) = |f(u) - f(v)|^2,
    f of unit length
    """
    clips, frames, _ = features.shape
    loss, gradient = 0.0, np.zeros_like(features)
    for b in range(clips):
        projected = features[b] @ weight.T + bias
        length = np.linalg.norm(projected, axis=1, keepdims=True)
        f = projected / length
        d = [float(np.sum((f[0] - f[1 + i]) ** 2)) for i in range(frames - 1)]
        by_f = np.zeros_like(f)
        for i in range(1, frames - 1):
            if d[i - 1] - d[i] + MARGIN > 0:
                loss += d[i - 1] - d[i] + MARGIN
                by_f[0] += 2 * (f[0] - f[i]) - 2 * (f[0] - f[1 + i])
                by_f[i] += -2 * (f[0] - f[i])
                by_f[1 + i] += 2 * (f[0] - f[1 + i])
        by_projected = (by_f - f * np.sum(by_f * f, axis=1, keepdims=True)) / length
        gradient[b] = by_projected @ weight
    return loss / clips, gradient / clips


class FixedFeatures:
    """A backbone that gives the features it was told, in order of the offsets."""

    def __init__(self, features: torch.Tensor) -> None:
        self.features = features

    def seen(self, objective: TemporalRanking) -> BatchView:
        views = objective.needs().views
        batch = make_batch(_plan(objective), len(self.features))
        seen = BatchView(batch, views, encode=None, teacher=None)  # type: ignore[arg-type]
        seen.pooled = lambda view, offsets: self.features[:, [_position(o) for o in offsets]]  # type: ignore[assignment, method-assign]
        return seen


def _plan(objective: TemporalRanking):  # type: ignore[no-untyped-def]
    from ausl_dist.batch import Needs

    return Needs.union([objective.needs()])


def _position(offset: int) -> int:
    return offset


@pytest.mark.parametrize("batch_norm", ["per_role", "merged"])
def test_value_and_gradient_are_those_of_the_formula(batch_norm: str) -> None:
    torch.manual_seed(0)
    objective = TemporalRanking(feature_dim=12, embedding_dim=7, batch_norm=batch_norm)  # type: ignore[arg-type]
    features = torch.randn(3, 2 + N, 12, requires_grad=True)
    value = objective(FixedFeatures(features).seen(objective)).value
    value.backward()
    weight, bias = (
        objective.embed.weight.detach().double().numpy(),
        objective.embed.bias.detach().double().numpy(),
    )
    wanted, wanted_gradient = by_hand(features.detach().double().numpy(), weight, bias)
    assert float(value.detach()) == pytest.approx(wanted, rel=1e-5)
    assert features.grad is not None
    np.testing.assert_allclose(features.grad.numpy(), wanted_gradient, rtol=1e-3, atol=1e-6)


def test_collapse_gives_the_papers_030() -> None:
    assert float(ranking_loss(torch.full((1, 1 + N), 0.7), MARGIN)) == pytest.approx(0.30)
    objective = TemporalRanking(feature_dim=12)
    equal = torch.ones(2, 2 + N, 12)
    loss = objective(FixedFeatures(equal).seen(objective))
    assert float(loss.value.detach()) == pytest.approx(0.30)
    assert float(loss.logs["accuracy"]) == 0.0


def test_ordered_gaps_cost_nothing_and_swapping_two_frames_costs() -> None:
    ordered = torch.arange(1 + N).float()[None] * 0.031
    assert float(ranking_loss(ordered, MARGIN)) == 0.0
    for i in range(1, N):
        swapped = ordered.clone()
        swapped[0, [i, i + 1]] = swapped[0, [i + 1, i]]
        assert float(ranking_loss(swapped, MARGIN)) > 0.03


def test_with_all_hinges_active_the_sum_telescopes() -> None:
    falling = torch.linspace(1.0, 0.5, 1 + N)[None]
    assert float(ranking_loss(falling, MARGIN)) == pytest.approx(1.0 - 0.5 + N * MARGIN)


def test_accuracy_is_told_for_each_pair() -> None:
    objective = TemporalRanking(feature_dim=4, embedding_dim=4, n_far=2)
    with torch.no_grad():
        objective.embed.weight.copy_(torch.eye(4))
        objective.embed.bias.zero_()
    # the last lies nearer than the one before
    frames = torch.tensor([[1.0, away, 0.0, 0.0] for away in (0.0, 0.1, 0.5, 0.2)])
    logs = objective(FixedFeatures(frames[None]).seen(objective)).logs
    assert (
        float(logs["accuracy_pair_0"]),
        float(logs["accuracy_pair_1"]),
        float(logs["accuracy"]),
    ) == (1.0, 0.0, 0.5)


def test_the_papers_frames_and_crop() -> None:
    views = TemporalRanking(feature_dim=4, spacing=5).needs().views
    assert sorted(offset for offsets in views.values() for offset in offsets) == [
        0,
        1,
        *(1 + 5 * i for i in range(1, 11)),
    ]
    assert len(views) == 3, "three roles, three forward passes"
    for view in views:
        assert view.per_frame
        assert (view.centre, view.crop) == (224 / 256, (213 / 256, 213 / 256))
    (merged,) = TemporalRanking(feature_dim=4, batch_norm="merged").needs().views.items()
    assert merged == (View(per_frame=True), tuple(range(12)))


def test_products_in_bfloat16_would_lose_the_order_of_neighbouring_frames() -> None:
    """Why rule 4 of objectives.base: near 1 a cosine in bfloat16 moves in steps of 4e-3, and
    neighbouring frames lie closer.
    """
    torch.manual_seed(0)
    anchor = F.normalize(torch.randn(256), dim=0)
    steps = torch.randn(11, 256) * 0.001
    frames = F.normalize(anchor + steps.cumsum(0), dim=-1)
    assert len((2 - 2 * (frames @ anchor)).unique()) == 11
    assert len((2 - 2 * (frames.bfloat16() @ anchor.bfloat16())).unique()) < 11, (
        "bfloat16 would do after all"
    )
    model = make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(make_batch(model.plan, 2))
    assert output.embeddings["temporal_ranking"].dtype == torch.float32
    lengths = output.embeddings["temporal_ranking"].norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=1e-5, atol=1e-5)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="n_far"):
        TemporalRanking(feature_dim=4, n_far=0)
    with pytest.raises(ValueError, match="per_frame, or merged"):
        TemporalRanking(feature_dim=4, crop="per_clip")

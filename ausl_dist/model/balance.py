"""Balance between objectives: how hard each pulls at the shared features, measured, and on
request made even.

    features ──▶ tap of objective i ──▶ its head and loss
                  backward: |gradient| is noted; with balance on, the gradient goes on times
                  share_i * (sum of all norms) / (own norm)

The rule is the loss balancer of Défossez et al., "High Fidelity Neural Audio Compression", TMLR
2023: each gradient at the model's output is brought to the share of the whole that its weight
states, by a running mean of its norm. So a weight of the mixture says what share of the pull an
objective has, whatever the size of its loss. Ours: the total pull stays what it would be
without balance, and heads keep their own gradients, unscaled.

Nothing is computed twice: norms come out of the backward pass that is done anyway, and act from
the next step on. `gradient_report` is the exact and costly look: a backward pass for each
objective down to the backbone's weights.
"""

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ausl_dist.objectives.base import world_size


class GradientBalance(nn.Module):
    """Running norms of each objective's gradient at the features, equal on all ranks, and the
    factors that even them out.
    """

    mean_square: Tensor  # one for each objective
    steps: Tensor  # 1: how many went into it

    def __init__(self, names: list[str], decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(
                f"balance_decay must lie in [0, 1), or be null for no balance, not {decay}"
            )
        self.names, self.decay = names, decay
        self.register_buffer("mean_square", torch.zeros(len(names)))
        self.register_buffer("steps", torch.zeros(1))
        self._seen: list[list[Tensor]] = [[] for _ in names]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "GradientBalance":
        super()._apply(fn, recurse)
        # in 16 bits a running mean stops running
        self.mean_square, self.steps = (
            self.mean_square.float(),
            self.steps.float(),
        )
        return self

    def factors(self, weights: Mapping[str, float]) -> dict[str, float]:
        """What each objective's gradient is multiplied by; 1 until all have been measured, or
        where one has none.
        """
        norms = dict(zip(self.names, self.norms().tolist(), strict=True))
        active = {
            name: weight for name, weight in weights.items() if weight > 0 and norms[name] > 0
        }
        total_weight, total_norm = sum(active.values()), sum(norms[name] for name in active)
        return {
            name: active[name] / total_weight * total_norm / norms[name]
            if name in active
            else 1.0
            for name in weights
        }

    def norms(self) -> Tensor:
        """Root of the running mean square of each objective's gradient, its weight included."""
        corrected = self.mean_square.float() / (1 - self.decay ** self.steps.float()).clamp(
            min=1e-12
        )
        return corrected.clamp(min=0).sqrt()

    def tap(self, name: str, factor: float, features: Tensor) -> Tensor:
        """The features themselves; their gradient from this objective is noted, and goes on
        times `factor`.
        """
        tapped: Tensor = _Tap.apply(features, factor, self._seen[self.names.index(name)])
        return tapped

    def after_step(self, taken: bool) -> None:
        """Take what the backward pass noted into the running means."""
        seen, self._seen[:] = list(self._seen), [[] for _ in self.names]
        if not taken:
            return
        zero = self.mean_square.new_zeros((), dtype=torch.float32)
        squares = torch.stack([torch.stack([zero, *own]).sum() for own in seen])
        if world_size() > 1:
            dist.all_reduce(squares)
        self.mean_square.lerp_(squares.to(self.mean_square), 1 - self.decay)
        self.steps += 1


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: float, seen: list[Tensor]) -> Tensor:
        ctx.factor, ctx.seen = factor, seen
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.seen.append(gradients[0].detach().float().square().sum())
        return gradients[0] * ctx.factor, None, None


def gradient_report(losses: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, float]:
    """Norm of each objective's gradient on the backbone's weights ("NAME/gradient_norm"), and
    cosines between them ("A/cosine_B").

    `losses` are this rank's shares, of one forward pass, which is kept; gradients are averaged
    over ranks, and no `.grad` is touched. The weights must be whole on this rank (not ZeRO 3).
    Needs memory for one gradient of the backbone for each objective.
    """
    weights = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    gradients = {}
    for name, loss in losses.items():
        parts = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        known = [
            torch.zeros_like(weight) if part is None else part
            for weight, part in zip(weights, parts, strict=True)
        ]
        flat = torch.cat([part.float().flatten() for part in known])
        if world_size() > 1:
            dist.all_reduce(flat)
        gradients[name] = flat / world_size()
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    report = {f"{name}/gradient_norm": norm for name, norm in norms.items()}
    for a, b in combinations(gradients, 2):
        product = norms[a] * norms[b]
        report[f"{a}/cosine_{b}"] = (
            float(gradients[a] @ gradients[b]) / product if product > 0 else math.nan
        )
    return report

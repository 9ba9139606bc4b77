"""What the ranks tell each other between forward and backward, so that all of them go the same
way.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Report:
    """One forward, summed up over all ranks."""

    finite: bool
    clips: int
    stop: bool
    loss: float
    logs: dict[str, float]


def agree(loss: Tensor, logs: Mapping[str, Tensor], clips: int, stop: bool) -> Report:
    """Tell all ranks of one forward, and hear of theirs.

    One small collective carries everything they must know of each other in a step.
    """
    names = sorted(logs)
    own = torch.tensor([clips, stop], dtype=torch.float64, device=loss.device)
    measured = torch.stack(
        [~torch.isfinite(loss), loss, *(logs[name] for name in names)]
    ).double()
    total = torch.cat([own, measured])
    dist.all_reduce(total)
    all_clips, stops, bad, *means = total.tolist()
    means = [mean / dist.get_world_size() for mean in means]
    return Report(
        bad == 0, int(all_clips), stops > 0, means[0], dict(zip(names, means[1:], strict=True))
    )


def judge(reports: list[Report], *, whole: bool) -> str | None:
    """Why a step must be left out, or None, by its forwards so far (`whole`: by all of them);
    the same on all ranks.
    """
    if not all(report.finite for report in reports):
        return "loss"
    # With nothing to learn from, Adam would still move the weights by its momentum and decay.
    return "no clips" if whole and not any(report.clips for report in reports) else None


def mean_of(reports: list[Report]) -> tuple[float, dict[str, float]]:
    """Loss and logs of a step of several forwards."""
    logs = {
        name: sum(report.logs[name] for report in reports) / len(reports)
        for name in reports[0].logs
    }
    return sum(report.loss for report in reports) / len(reports), logs


def average_over_ranks(statistics: list[Tensor]) -> None:
    """Make batch norm's running statistics their mean over the ranks, in place."""
    # Each rank's batch norm has seen its own clips: averaged, every rank holds the same model,
    # and a checkpoint needs it once. counts are equal as they are
    statistics = [statistic for statistic in statistics if statistic.is_floating_point()]
    if statistics and dist.get_world_size() > 1:
        flat = torch.cat([statistic.view(-1) for statistic in statistics])
        dist.all_reduce(flat)
        parts = (flat / dist.get_world_size()).split(
            [statistic.numel() for statistic in statistics]
        )
        torch._foreach_copy_(
            statistics, [part.view_as(s) for part, s in zip(parts, statistics, strict=True)]
        )

"""What is hoped of one card, beside what was seen: for a reader in a hurry."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tools.gpu_bench.sizes import Numbers


@dataclass(frozen=True)
class Goal:
    """A figure to reach: the best one of the parts' numbers whose name fits."""

    name: str
    parts: tuple[str, ...]
    pattern: str  # of the numbers' names
    bound: float
    at_least: bool = True  # else at most

    def seen(self, parts: Mapping[str, Numbers]) -> float | None:
        fitting = [
            value
            for part in self.parts
            for name, value in parts.get(part, {}).items()
            if re.search(self.pattern, name) and not isinstance(value, str)
        ]
        best = max if self.at_least else min
        return best(fitting, default=None)

    def reached(self, seen: float) -> bool:
        return seen >= self.bound if self.at_least else seen < self.bound


GOALS = (
    Goal("decoded and augmented frames/s", ("loader",), r"^loader, .*frames/s$", 10_000),
    Goal("loader over the bare decoder", ("loader",), r"^loader over the bare decoder", 0.85),
    Goal("stall, share of a run", ("stall",), r"^stall", 0.01, at_least=False),
    Goal("MFU of a ViT in bf16", ("step", "compiled"), r"vit.*bf16.*MFU$", 0.45),
)


@dataclass(frozen=True)
class Judged:
    """One goal, and what came of it."""

    goal: str
    wanted: str
    seen: float | None
    verdict: str  # reached, missed, not measured; no GPU


def judge(parts: Mapping[str, Numbers], *, gpu: bool) -> list[Judged]:
    """Every goal, by the numbers of the parts that were run; a CPU reaches and misses none."""
    rows = []
    for goal in GOALS:
        seen = goal.seen(parts)
        verdict = "not measured"
        if seen is not None:
            verdict = "reached" if goal.reached(seen) else "missed"
            verdict = verdict if gpu else "no GPU"
        wanted = f"{'at least' if goal.at_least else 'under'} {goal.bound:,}"
        rows.append(Judged(goal.name, wanted, seen, verdict))
    return rows


def as_json(rows: list[Judged]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def as_table(rows: list[Judged]) -> str:
    lines = ["| goal | wanted | seen | |", "|---|---|---|---|"]
    for row in rows:
        seen = "" if row.seen is None else f"{row.seen:,.4g}"
        lines.append(f"| {row.goal} | {row.wanted} | {seen} | {row.verdict} |")
    return "\n".join(lines)

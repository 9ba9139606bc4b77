"""The dashboard that is shipped must be the one that is written here, over metrics that exist."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from ausl_dist.observe.dashboard import GRID_WIDTH, build, expressions
from ausl_dist.observe.metrics import TABLE

SHIPPED = Path(__file__).resolve().parents[2] / "tools" / "monitoring" / "dashboard.json"


def test_the_shipped_dashboard_is_up_to_date() -> None:
    assert json.loads(SHIPPED.read_text()) == build(), "type: python -m tools.make_dashboard"


def test_expressions_and_table_speak_of_the_same_metrics() -> None:
    used = {
        name for expression in expressions() for name in re.findall(r"ausl_[a-z_]+", expression)
    }
    used = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in used}
    table = {row.name for row in TABLE}
    assert used - table == set()
    not_drawn = {
        "ausl_build_info",
        "ausl_clips",
        "ausl_frames",
        "ausl_steps",
        "ausl_last_step_timestamp_seconds",
        "ausl_run_ranks",
    }
    assert (
        table - used - not_drawn
        == {"ausl_checkpoint_step", "ausl_rank_step_seconds", "ausl_run_disk_size_bytes"} - used
    )


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels: list[dict[str, Any]] = build()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= GRID_WIDTH for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)

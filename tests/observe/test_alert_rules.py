"""Each kind of trouble must raise its own alert, and no other: promtool plays series of two
ranks against the shipped rules.

A case changes a few series of a healthy run and says which alerts must then be firing at the
end of two hours. Series are in promtool's notation, one value a minute: `0+60x120` starts at 0
and grows by 60 for 120 minutes.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ausl_dist.observe.metrics import TABLE
from tests.support.programs import program

RULES = Path(__file__).resolve().parents[2] / "tools" / "monitoring" / "alerts.yml"
MINUTES = 120

Series = dict[str, str]


def healthy() -> Series:
    """Two ranks, a step of half a second each, one twentieth of it waiting for data, a
    checkpoint every ten minutes.
    """
    series: Series = {}
    for rank in ("0", "1"):
        who = f'run="demo",rank="{rank}",node="node{rank}"'
        series |= {
            f'up{{job="ausl",{who}}}': "1x120",
            f"ausl_steps_total{{{who}}}": "0+120x120",
            f"ausl_steps_skipped_total{{{who}}}": "0x120",
            f"ausl_last_step_timestamp_seconds{{{who}}}": "0+60x120",
            f"ausl_rank_step_seconds{{{who}}}": "0.5x120",
            f"ausl_rank_own_seconds{{{who}}}": "0.4x120",
            f"ausl_step_seconds_sum{{{who}}}": "0+60x120",
            f'ausl_phase_seconds_total{{phase="data",{who}}}': "0+3x120",
            f'ausl_phase_seconds_total{{phase="forward",{who}}}': "0+57x120",
            f'ausl_phase_age_seconds{{phase="forward",{who}}}': "0.1x120",
            f'ausl_stage_blocked_seconds_total{{stage="fetch",{who}}}': "0+2x120",
            f'ausl_corrupt_budget_used_ratio{{reason="decode",{who}}}': "0.1x120",
            f'ausl_objective_collapsed{{objective="ranking",{who}}}': "0x120",
            f"ausl_checkpoint_timestamp_seconds{{{who}}}": "0+60x120",
            f"ausl_run_disk_free_bytes{{{who}}}": "50x120",
            f"ausl_run_disk_size_bytes{{{who}}}": "100x120",
        }
    return series


def changed(rank: str | None = None, **changes: str) -> Series:
    """The healthy run with some metrics (by name) having other values, on one rank or on both."""
    series = healthy()
    for name, values in changes.items():
        matching = [
            key
            for key in series
            if key.split("{")[0] == name and (rank is None or f'rank="{rank}"' in key)
        ]
        assert matching, f"{name} is not among the healthy series"
        series.update(dict.fromkeys(matching, values))
    return series


def with_data_wait(per_minute: float, rank: str | None = None) -> Series:
    series = healthy()
    series.update(
        {
            key: f"0+{per_minute}x120"
            for key in series
            if 'phase="data"' in key and (rank is None or f'rank="{rank}"' in key)
        }
    )
    return series


def late_data_on_one_rank() -> Series:
    return with_data_wait(30, rank="1") | {
        'ausl_rank_own_seconds{run="demo",rank="1",node="node1"}': "0.7x120"
    }


def killed() -> Series:
    """Rank 1 dies at minute 90: its series end, rank 0 hangs in its collective."""
    series = changed(
        rank="0",
        ausl_last_step_timestamp_seconds="0+60x90 5400x30",
        ausl_steps_total="0+120x90 10800x30",
    )
    series.update(
        {
            key: value.replace("x120", "x90")
            for key, value in series.items()
            if 'rank="1"' in key
        }
    )
    series['up{job="ausl",run="demo",rank="1",node="node1"}'] = "1x90 0x30"
    series['ausl_phase_age_seconds{phase="forward",run="demo",rank="0",node="node0"}'] = (
        "0x90 0+60x30"
    )
    return series


def hung(phase: str = "forward") -> Series:
    """No step after minute 90, and all ranks are there: the loop does not come out of `phase`."""
    series = changed(
        ausl_last_step_timestamp_seconds="0+60x90 5400x30", ausl_steps_total="0+120x90 10800x30"
    )
    for rank in ("0", "1"):
        who = f'run="demo",rank="{rank}",node="node{rank}"'
        del series[f'ausl_phase_age_seconds{{phase="forward",{who}}}']
        series[f'ausl_phase_age_seconds{{phase="{phase}",{who}}}'] = "0x90 0+60x30"
    return series


CASES: dict[str, tuple[Series, set[str]]] = {
    "a healthy run": (healthy(), set()),
    "a killed rank": (killed(), {"AuslRankDown"}),
    "a hang in a collective": (hung(), {"AuslStuck"}),
    "a start that does not end": (
        changed(
            ausl_steps_total="0x120",
            ausl_last_step_timestamp_seconds="0x120",
            ausl_rank_step_seconds="0x120",
        ),
        {"AuslStuck"},
    ),
    "a store that stalls for good": (hung("data"), {"AuslStarved"}),
    "a store that stalls while one rank was the slower": (
        hung("data") | {'ausl_rank_own_seconds{run="demo",rank="1",node="node1"}': "0.6x120"},
        {"AuslStarved"},
    ),
    "a store that is too slow": (with_data_wait(12), {"AuslStarved"}),
    "data waits of a few percent": (with_data_wait(5), set()),
    "one rank whose data come late": (late_data_on_one_rank(), {"AuslSlowRank"}),
    "a slow rank": (
        changed(rank="1", ausl_rank_own_seconds="0.6x120", ausl_rank_step_seconds="0.7x120"),
        {"AuslSlowRank"},
    ),
    "ranks that differ a little": (changed(rank="1", ausl_rank_own_seconds="0.44x120"), set()),
    "corrupt clips past half the budget": (
        changed(ausl_corrupt_budget_used_ratio="0.6x120"),
        {"AuslCorruptBudgetNear"},
    ),
    "a collapse": (changed(ausl_objective_collapsed="0x100 1x20"), {"AuslCollapse"}),
    "a loss that is not finite": (
        changed(ausl_steps_skipped_total="0x115 1x5"),
        {"AuslNotFinite"},
    ),
    "a skipped step an hour ago": (changed(ausl_steps_skipped_total="0x60 1x60"), set()),
    "no checkpoint": (
        changed(ausl_checkpoint_timestamp_seconds="-3600x120"),
        {"AuslCheckpointOld"},
    ),
    "a disk nearly full": (changed(ausl_run_disk_free_bytes="4x120"), {"AuslDiskNearlyFull"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_cause_raises_its_own_alert_and_no_other(case: str, tmp_path: Path) -> None:
    promtool = program("promtool", "prometheus")
    series, expected = CASES[case]
    firing = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{MINUTES}m",
    }
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)]
    suite = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": key, "values": values} for key, values in series.items()
                ],
                "promql_expr_test": [{**firing, "exp_samples": samples}],
            }
        ],
    }
    path = tmp_path / "case.yml"
    path.write_text(json.dumps(suite))
    tested = subprocess.run(
        [promtool, "test", "rules", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_rule_has_a_case_that_fires_it() -> None:
    rules = {
        rule["alert"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
    }
    assert rules == set.union(*(expected for _, expected in CASES.values()))


def test_rules_speak_only_of_metrics_that_exist() -> None:
    known = {row.name for row in TABLE}
    used = set(re.findall(r"ausl_[a-z_]+", RULES.read_text()))
    suffixes = ("_total", "_sum", "_count", "_bucket")
    unknown = {
        name
        for name in used
        if name not in known and not any(name.removesuffix(end) in known for end in suffixes)
    }
    assert unknown - {"ausl_dist"} == set()

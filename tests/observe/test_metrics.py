"""The table is the only place where metrics are declared, and what is served is what it says."""

import ast
import subprocess
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ausl_dist.observe.metrics import TABLE, make_registry
from ausl_dist.observe.readings import OBJECTIVE_LOGS
from ausl_dist.observe.state import RankState
from tests.support.observing import record, state
from tests.support.programs import program

ROOT = Path(__file__).resolve().parents[2]


def full_state() -> RankState:
    """A rank for which every row has something to tell."""
    from ausl_dist.observe.device import Usage

    rank = state()
    logs = {f"ranking/{what}": 1.0 for what in OBJECTIVE_LOGS} | {
        "ranking/accuracy": 0.75,
        "mfu": 0.4,
    }
    counts = {
        "clips": 399,
        "bytes": 1,
        "cache_hits": 3,
        "cache_failures": 1,
        "retries": 2,
        "retries_timeout": 2,
        "missing_decode": 5,
    }
    rank.add(record(0, logs=logs, loader_counts=counts, loader_queues={"ready": 2}), waited=0.1)
    rank.note("checkpoint", {"step": 1, "seconds": 1.5, "bytes": 4096})
    rank.slowest = (1, 0.3)
    rank.starvation = SimpleNamespace(share=0.1)  # type: ignore[assignment]
    rank.usage = Usage(1, 2, 3, 4, 5, 6, 0.5, 0.25)
    return rank


def exported(rank: RankState) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> label values -> value."""
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(generate_latest(make_registry(rank)).decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return samples


def test_every_row_of_the_table_is_served_when_it_has_something_to_tell() -> None:
    text = generate_latest(make_registry(full_state())).decode()
    served = {family.name for family in text_string_to_metric_families(text)}
    assert served == {row.name for row in TABLE}


def test_promtool_finds_nothing_to_object_to() -> None:
    promtool = program("promtool", "prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(make_registry(full_state())),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_no_other_file_declares_metrics() -> None:
    """A metric made elsewhere would be served beside the table, unnamed and unchecked."""
    makers = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
    makers |= {
        f"{kind}MetricFamily"
        for kind in ("Counter", "Gauge", "Histogram", "Summary", "Info", "StateSet", "Untyped")
    }
    offenders = []
    for path in [
        *ROOT.glob("ausl_dist/**/*.py"),
        *ROOT.glob("launch/**/*.py"),
        *ROOT.glob("tools/**/*.py"),
    ]:
        text = path.read_text()
        for node in ast.walk(ast.parse(text if "prometheus_client" in text else "")):
            from_client = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "prometheus_client"
            )
            if (
                from_client
                and path.name != "metrics.py"
                and makers & {name.name for name in node.names}
            ):
                offenders.append(str(path))
    assert offenders == []


def test_names_are_distinct_and_carry_base_units() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))
    assert all(name.startswith("ausl_") for name in names)
    assert not [
        name
        for name in names
        if name.rsplit("_", 1)[-1] in ("ms", "milliseconds", "percent", "mb", "gb", "minutes")
    ]


def test_values_are_those_of_the_rank() -> None:
    samples = exported(full_state())
    assert samples["ausl_steps_total"] == {(): 1}
    assert samples["ausl_clips_total"] == {(): 8}
    assert samples["ausl_phase_seconds_total"][("data",)] == 0.02
    assert samples["ausl_stage_blocked_seconds_total"] == {("fetch",): 0.1, ("decode",): 0.2}
    assert samples["ausl_fetch_retries_total"] == {("timeout",): 2}
    assert samples["ausl_corrupt_clips_total"] == {("decode",): 5}
    # 5 of 404 clips, judged as if of 1000, of which 1 % may be missing; a reason that allows
    # none stops the run by itself
    used = {("decode",): 0.5, ("unpack",): 0, ("removed",): 0}
    assert samples["ausl_corrupt_budget_used_ratio"] == used
    assert samples["ausl_objective_loss"] == {("ranking",): 1.0}
    # labels in order of their names
    assert samples["ausl_objective_value"] == {("accuracy", "ranking"): 0.75}
    assert samples["ausl_mfu_ratio"] == {(): 0.4}
    assert samples["ausl_step_seconds_bucket"][("0.2",)] == 1
    assert samples["ausl_step_seconds_bucket"][("0.1",)] == 0
    assert samples["ausl_step_seconds_sum"] == {(): 0.2}
    assert samples["ausl_checkpoint_bytes"] == {(): 4096}
    assert samples["ausl_slowest_rank"] == {(): 1}


def test_the_slowest_rank_may_be_rank_0() -> None:
    rank = full_state()
    rank.slowest = (0, 0.3)
    assert exported(rank)["ausl_slowest_rank"] == {(): 0}


def test_a_log_that_is_taken_now_and_then_stays_visible_between() -> None:
    rank = state()
    rank.add(record(0, logs={"ranking/loss": 0.5, "ranking/effective_rank": 12.0}))
    rank.add(record(1, logs={"ranking/loss": 0.4}))
    assert exported(rank)["ausl_objective_effective_rank"] == {("ranking",): 12.0}
    assert exported(rank)["ausl_objective_loss"] == {("ranking",): 0.4}


def test_a_rank_without_a_step_serves_its_start_and_no_losses() -> None:
    samples = exported(state())
    assert samples["ausl_steps_total"] == {(): 0}
    assert "ausl_loss" not in samples
    assert samples["ausl_phase_age_seconds"] == {("start",): 0}


def test_labels_are_added_where_no_target_gives_them() -> None:
    text = generate_latest(make_registry(state(), {"run": "demo", "rank": "3"})).decode()
    assert 'ausl_steps_total{rank="3",run="demo"} 0.0' in text
    assert 'ausl_step_seconds_count{rank="3",run="demo"} 0.0' in text

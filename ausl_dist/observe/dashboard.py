"""The Grafana dashboard, as data: a row per room, a few panels each, every panel one or two
expressions over the metrics table.

    ROWS ──▶ build() ──▶ tools/monitoring/dashboard.json     (python -m tools.make_dashboard)

Grafana's classic dashboard model (schema version 39). `$run` chooses the runs shown.
"""

from dataclasses import dataclass
from typing import Any, Literal

GRID_WIDTH = 24
PANEL_HEIGHT = 8
STAT_HEIGHT = 4
SOURCE = {"type": "prometheus", "uid": "${source}"}
RUN = 'run=~"$run"'


@dataclass(frozen=True)
class Panel:
    """One picture: queries are (PromQL, legend); `unit` is Grafana's name of it."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    note: str = ""
    kind: Literal["timeseries", "stat"] = "timeseries"
    stacked: bool = False
    width: int = 8


def _one(title: str, expression: str, legend: str = "", **options: Any) -> Panel:
    return Panel(title, ((expression.replace("RUN", RUN), legend),), **options)


def _stat(title: str, expression: str, unit: str = "short") -> Panel:
    return _one(title, expression, "{{run}}", unit=unit, kind="stat", width=4)


SHARE = "percentunit"
RATE_WINDOW = "[$__rate_interval]"

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Run",
        (
            _stat(
                "Steps done",
                "max by (run) (ausl_run_steps_done{RUN} / ausl_run_steps_planned{RUN})",
                SHARE,
            ),
            _stat(
                "Time left",
                "max by (run) ((ausl_run_steps_planned{RUN} - ausl_run_steps_done{RUN}) * "
                "ausl_rank_step_seconds{RUN})",
                "s",
            ),
            _stat("Clips a second, all ranks", "sum by (run) (ausl_clips_per_second{RUN})"),
            _stat("Goodput", 'max by (run) (ausl_goodput_ratio{RUN,rank="0"})', SHARE),
            _stat("Ranks that answer", 'sum by (run) (up{job="ausl",RUN})'),
            _stat("Restarts", "max by (run) (ausl_run_restarts{RUN})"),
        ),
    ),
    (
        "Data",
        (
            _one(
                "Waiting for data, share of a step",
                "ausl_data_blocked_ratio{RUN}",
                "rank {{rank}}",
                unit=SHARE,
            ),
            _one(
                "Which stage keeps the next one waiting",
                f"sum by (stage) (rate(ausl_stage_blocked_seconds_total{{RUN}}{RATE_WINDOW}))",
                "{{stage}}",
                unit="s",
                note="Seconds a second, summed over ranks.",
            ),
            _one("Clips a second", "sum by (run) (ausl_clips_per_second{RUN})", "{{run}}"),
            _one("Frames a second", "sum by (run) (ausl_frames_per_second{RUN})", "{{run}}"),
            _one(
                "Read from storage",
                f"sum by (run) (rate(ausl_fetched_bytes_total{{RUN}}{RATE_WINDOW}))",
                "{{run}}",
                unit="Bps",
            ),
            _one(
                "Chunks from the disk cache",
                f"sum by (run) (rate(ausl_cache_hits_total{{RUN}}{RATE_WINDOW}))",
                "{{run}}",
                unit="ops",
            ),
            _one(
                "Disk caches given up",
                "sum by (run) (ausl_cache_failures_total{RUN})",
                "{{run}}",
            ),
            _one(
                "Repeated reads",
                f"sum by (reason) (rate(ausl_fetch_retries_total{{RUN}}{RATE_WINDOW}))",
                "{{reason}}",
                unit="ops",
            ),
            _one(
                "Steps in the queues of the poorest rank",
                "min by (queue) (ausl_queue_depth{RUN})",
                "{{queue}}",
            ),
            _one(
                "Clips that could not be used",
                "sum by (reason) (ausl_corrupt_clips_total{RUN})",
                "{{reason}}",
            ),
        ),
    ),
    (
        "Compute",
        (
            _one(
                "Where a step's time goes",
                f"avg by (phase) (rate(ausl_phase_seconds_total{{RUN}}{RATE_WINDOW}))",
                "{{phase}}",
                unit="s",
                stacked=True,
                note="Seconds a second, mean over ranks.",
            ),
            Panel(
                "Length of a step",
                tuple(
                    (
                        f"histogram_quantile({q}, "
                        f"sum by (le) (rate(ausl_step_seconds_bucket{{{RUN}}}{RATE_WINDOW})))",
                        f"{q:.0%} are shorter",
                    )
                    for q in (0.5, 0.99)
                ),
                unit="s",
            ),
            _one(
                "A rank's own time a step",
                "ausl_rank_own_seconds{RUN}",
                "rank {{rank}} {{node}}",
                unit="s",
            ),
            _one(
                "Waiting for other ranks",
                f"rate(ausl_waited_seconds_total{{RUN}}{RATE_WINDOW})",
                "rank {{rank}}",
                unit=SHARE,
            ),
            _one("Slowest rank", "ausl_slowest_rank{RUN}", "rank number"),
            _one(
                "Slowest rank's own time a step",
                "ausl_slowest_rank_own_seconds{RUN}",
                "{{run}}",
                unit="s",
            ),
            _one("Model FLOPs utilisation", "ausl_mfu_ratio{RUN}", "rank {{rank}}", unit=SHARE),
            _one(
                "GPU without work", "ausl_gpu_starved_ratio{RUN}", "rank {{rank}}", unit=SHARE
            ),
            Panel(
                "GPU and NVDEC use",
                (
                    (f"ausl_gpu_busy_ratio{{{RUN}}}", "GPU rank {{rank}}"),
                    (f"ausl_gpu_decoder_busy_ratio{{{RUN}}}", "NVDEC rank {{rank}}"),
                ),
                unit=SHARE,
            ),
            Panel(
                "GPU memory",
                (
                    (f"ausl_gpu_memory_allocated_bytes{{{RUN}}}", "tensors, rank {{rank}}"),
                    (f"ausl_gpu_memory_reserved_bytes{{{RUN}}}", "held, rank {{rank}}"),
                    (f"ausl_gpu_memory_size_bytes{{{RUN}}}", "there is, rank {{rank}}"),
                ),
                unit="bytes",
            ),
            _one(
                "Host memory",
                "ausl_host_memory_bytes{RUN}",
                "rank {{rank}} {{node}}",
                unit="bytes",
            ),
        ),
    ),
    (
        "Objectives",
        (
            _one("Loss", 'ausl_loss{RUN,rank="0"}', "{{run}}"),
            _one(
                "Loss of each objective", 'ausl_objective_loss{RUN,rank="0"}', "{{objective}}"
            ),
            _one(
                "Weight of each objective",
                'ausl_objective_weight{RUN,rank="0"}',
                "{{objective}}",
            ),
            _one("Gradient norm", 'ausl_gradient_norm{RUN,rank="0"}', "{{run}}"),
            _one(
                "Gradient norm of each objective",
                'ausl_objective_gradient_norm{RUN,rank="0"}',
                "{{objective}}",
            ),
            _one("Learning rate", 'ausl_learning_rate{RUN,rank="0"}', "{{run}}"),
            _one(
                "What else objectives log",
                'ausl_objective_value{RUN,rank="0"}',
                "{{objective}} {{name}}",
                width=24,
            ),
        ),
    ),
    (
        "Health",
        (
            _one(
                "Collapsed",
                "max by (run, objective) (ausl_objective_collapsed{RUN})",
                "{{objective}}",
            ),
            _one(
                "Effective rank of the features",
                'ausl_objective_effective_rank{RUN,rank="0"}',
                "{{objective}}",
            ),
            _one(
                "Standard deviation of the features",
                'ausl_objective_feature_std{RUN,rank="0"}',
                "{{objective}}",
            ),
            _one("Uniformity", 'ausl_objective_uniformity{RUN,rank="0"}', "{{objective}}"),
            _one(
                "Agreement with the teacher",
                'ausl_objective_teacher_agreement{RUN,rank="0"}',
                "{{objective}}",
            ),
            _one(
                "Age of the bank, steps",
                'ausl_objective_bank_age_steps{RUN,rank="0"}',
                "{{objective}}",
            ),
        ),
    ),
    (
        "Faults",
        (
            _one("Ranks that answer", 'up{job="ausl",RUN}', "rank {{rank}} {{node}}"),
            _one(
                "How long the loop has been where it is",
                "ausl_phase_age_seconds{RUN}",
                "rank {{rank}} {{phase}}",
                unit="s",
            ),
            _one("Skipped steps", "max by (run) (ausl_steps_skipped_total{RUN})", "{{run}}"),
            _one("Events", "sum by (kind) (ausl_events_total{RUN})", "{{kind}}"),
            _one(
                "Used of the budget of unusable clips",
                "max by (reason) (ausl_corrupt_budget_used_ratio{RUN})",
                "{{reason}}",
                unit=SHARE,
            ),
            _one(
                "Age of the newest checkpoint",
                'time() - ausl_checkpoint_timestamp_seconds{RUN,rank="0"}',
                "{{run}}",
                unit="s",
            ),
            _one(
                "Time to save",
                'ausl_checkpoint_save_seconds{RUN,rank="0"}',
                "{{run}}",
                unit="s",
            ),
            _one(
                "Size of a checkpoint",
                'ausl_checkpoint_bytes{RUN,rank="0"}',
                "{{run}}",
                unit="bytes",
            ),
            _one(
                "Disk of the run folder, free",
                "min by (run) (ausl_run_disk_free_bytes{RUN})",
                "{{run}}",
                unit="bytes",
            ),
        ),
    ),
)


def expressions() -> list[str]:
    """Every expression on the dashboard, as Grafana sends it but for its variables."""
    return [
        expression for _, panels in ROWS for panel in panels for expression, _ in panel.queries
    ]


def build() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        place = _place(0, top, GRID_WIDTH, 1)
        panels.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "id": len(panels) + 1,
                "gridPos": place,
                "panels": [],
            }
        )
        top += 1
        left = 0
        height = PANEL_HEIGHT
        for panel in row:
            if left + panel.width > GRID_WIDTH:
                left, top = 0, top + height
            height = STAT_HEIGHT if panel.kind == "stat" else PANEL_HEIGHT
            panels.append(
                _panel(panel, len(panels) + 1, _place(left, top, panel.width, height))
            )
            left += panel.width
        top += height
    return {
        "uid": "ausl-dist",
        "title": "ausl_dist: pretraining",
        "tags": ["ausl_dist"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom = (
        {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30}
        if panel.stacked
        else {}
    )
    targets = [
        {
            "refId": chr(ord("A") + i),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "instant": panel.kind == "stat",
        }
        for i, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": {},
        "targets": targets,
    }


def _variables() -> list[dict[str, Any]]:
    source = {
        "name": "source",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }
    run = {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(ausl_run_steps_done, run)",
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }
    return [source, run]

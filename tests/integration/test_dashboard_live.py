"""Each expression of the dashboard is sent to a real Prometheus that scrapes two real ranks,
and must give data.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ausl_dist.observe.dashboard import expressions
from ausl_dist.observe.device import Usage
from ausl_dist.observe.observer import Observer, StepRecord
from ausl_dist.observe.readings import OBJECTIVE_LOGS
from ausl_dist.observe.settings import ExporterSettings, ObserveSettings
from tests.support.certificates import make_certificate
from tests.support.prometheus_server import MONITORING, Prometheus, wait_for

PASSWORD_LINE = "prometheus:s3cret"


def step_record(step: int) -> StepRecord:
    logs = {f"ranking/{what}": 1.0 for what in OBJECTIVE_LOGS} | {
        "ranking/accuracy": 0.75,
        "mfu": 0.4,
    }
    counts = {
        "clips": 8 * step,
        "bytes": 1000 * step,
        "cache_hits": step,
        "cache_failures": 1,
        "retries": step,
        "retries_timeout": step,
        "missing_decode": 1,
    }
    return StepRecord(
        step=step,
        clips=8,
        frames=96,
        loss=0.5,
        logs=logs,
        seconds={
            "data": 0.01,
            "forward": 0.05,
            "backward": 0.03,
            "optimizer": 0.01,
            "total": 0.1,
        },
        learning_rate=1e-3,
        gradient_norm=1.0,
        loader_blocked={"fetch": 0.01 * step, "decode": 0.02 * step},
        loader_counts=counts,
        loader_queues={"planned": 60, "decoding": 2, "ready": 2},
    )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus, and two observers that tell of everything there is, a GPU included."""
    folder = tmp_path_factory.mktemp("dashboard")
    targets = folder / "targets"
    exporter = ExporterSettings(discovery_folder=str(targets))
    settings = ObserveSettings(console="quiet", heartbeat_seconds=1.0, exporter=exporter)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(
            "ausl_dist.observe.pulse.read_usage",
            lambda run_folder, gpu: Usage(1, 2, 3, 4, 5, 6, 0.5, 0.25),
        )
        server = stack.enter_context(
            Prometheus(folder / "prometheus", targets, MONITORING / "alerts.yml")
        )
        ranks = []
        for rank in range(2):
            observer = Observer(
                settings,
                run_folder=folder / "run",
                run_name="demo",
                rank=rank,
                world_size=2,
                attempt=1,
                start_step=0,
                total_steps=1000,
            )
            ranks.append(stack.enter_context(observer))
            observer.event("checkpoint", step=0, seconds=1.5, bytes=4096)
            observer._state.starvation = SimpleNamespace(share=0.1)  # type: ignore[assignment]
        for step in range(60):
            for observer in ranks:
                observer.step(step_record(step))
            time.sleep(0.1)
        wait_for(
            lambda: len(server.query("count_over_time(ausl_steps_total[1m]) >= 3")) == 2,
            30,
            "three scrapes of each rank",
        )
        yield server


def for_the_api(expression: str) -> str:
    """An expression with Grafana's variables filled in as Grafana would."""
    return expression.replace("$__rate_interval", "1m").replace("$run", "demo|other")


def test_every_expression_parses_and_gives_data(watched: Prometheus) -> None:
    silent = []
    for expression in expressions():
        asked = for_the_api(expression)
        watched.get("/api/v1/format_query", query=asked)
        if not watched.query(asked):
            silent.append(asked)
    assert silent == []


def test_both_ranks_are_found_with_their_labels(watched: Prometheus) -> None:
    labels = [
        series["metric"]
        for series in wait_for(lambda: watched.query("ausl_steps_total"), 10, "a scrape")
    ]
    assert sorted(
        (label["run"], label["rank"], label["attempt"], label["job"]) for label in labels
    ) == [
        ("demo", "0", "1", "ausl"),
        ("demo", "1", "1", "ausl"),
    ]


def test_scrapes_with_tls_and_password_work_as_the_configuration_says(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    password = tmp_path / "password"
    password.write_text(PASSWORD_LINE)
    (tmp_path / "secret").write_text(PASSWORD_LINE.split(":")[1])
    exporter = ExporterSettings(
        discovery_folder=str(tmp_path / "targets"),
        certificate=str(certificate),
        key=str(key),
        password_file=str(password),
    )
    settings = ObserveSettings(console="quiet", exporter=exporter)
    server = Prometheus(
        tmp_path / "prometheus", tmp_path / "targets", MONITORING / "alerts.yml"
    )
    scrape: dict[str, Any] = server.config["scrape_configs"][0]
    scrape["basic_auth"] = {"username": "prometheus", "password_file": str(tmp_path / "secret")}
    scrape["tls_config"] = {"ca_file": str(certificate)}
    observer = Observer(
        settings,
        run_folder=tmp_path,
        run_name="demo",
        rank=0,
        world_size=1,
        attempt=1,
        start_step=0,
        total_steps=10,
    )
    with observer, server:
        (up,) = wait_for(lambda: server.query("up == 1"), 20, "a scrape over TLS")
    assert up["metric"]["run"] == "demo"


@pytest.mark.timeout(300)
def test_the_dashboard_fits_grafanas_schema(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm: apt-get install nodejs npm")
    packages = ["@grafana/schema@13", "typescript@5"]
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", *packages],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"npm cannot install {packages}: {installed.stderr[-200:]}")
    dashboard = json.dumps(json.loads((MONITORING / "dashboard.json").read_text()))
    typed = (
        f"import type {{ Dashboard }} from '@grafana/schema';\nexport const dashboard: "
        f"Dashboard = {dashboard};\n"
    )
    (tmp_path / "check.ts").write_text(typed)
    compiler = [
        str(tmp_path / "node_modules" / ".bin" / "tsc"),
        "--noEmit",
        "--strict",
        "--skipLibCheck",
    ]
    options = ["--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"]
    checked = subprocess.run(
        [*compiler, *options, "check.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout

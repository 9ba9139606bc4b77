"""The last values of a job must stay readable at a real Pushgateway after the job has gone."""

import io
import subprocess
import urllib.request
from pathlib import Path

from ausl_dist.observe.observer import Observer, StepRecord
from ausl_dist.observe.settings import ExporterSettings, ObserveSettings
from launch.ports import answers, free_ports
from tests.support.programs import program
from tests.support.prometheus_server import wait_for


def test_values_are_left_at_the_gateway_under_the_ranks_labels(tmp_path: Path) -> None:
    gateway_program = program("prometheus-pushgateway", "prometheus-pushgateway")
    (port,) = free_ports(1)
    with open(tmp_path / "gateway.log", "wb") as log:
        gateway = subprocess.Popen(
            [
                gateway_program,
                f"--web.listen-address=127.0.0.1:{port}",
                f"--persistence.file={tmp_path / 'gateway'}",  # Debian's keeps all runs' in one
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: answers(port), 30, "the start of the Pushgateway")
        settings = ObserveSettings(
            exporter=ExporterSettings(enabled=False, pushgateway=f"http://127.0.0.1:{port}")
        )
        stream = io.StringIO()
        place = {"run_folder": tmp_path / "run", "run_name": "demo", "rank": 3, "world_size": 4}
        with Observer(
            settings, **place, attempt=2, start_step=0, total_steps=10, stream=stream
        ) as observer:  # type: ignore[arg-type]
            observer.step(StepRecord(0, 8, 96, 0.5, seconds={"total": 0.1}))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text = response.read().decode()
    finally:
        gateway.terminate()
        gateway.wait(10)
    (line,) = (line for line in text.splitlines() if line.startswith("ausl_steps_total{"))
    assert line.endswith(" 1")
    for label in ('job="ausl"', 'run="demo"', 'rank="3"', 'attempt="2"'):
        assert label in line
    assert "failed" not in stream.getvalue()

"""A real Prometheus and a real Alertmanager on free loopback ports, started from the shipped
configuration for one test.

Debian's packages bring both: apt-get install prometheus prometheus-alertmanager. Where they are
missing, tests that need them skip.
"""

import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from launch.ports import free_ports
from tests.support.programs import program

MONITORING = Path(__file__).resolve().parents[2] / "tools" / "monitoring"
START_SECONDS = 30.0


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true value of `condition`, asked several times a second; fails naming
    `what` after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.2)


def faster_rules(times: float, folder: Path) -> Path:
    """The shipped alert rules with every duration divided by `times`, so that an hour's trouble
    shows within a test.
    """

    def divide(match: re.Match[str]) -> str:
        seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
        return f"{max(1, round(seconds / times))}s"

    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["for"] = re.sub(r"(\d+)([smh])\b", divide, rule.get("for", "0s"))
            # Ranges in brackets, and the plain numbers of seconds that ages are compared with.
            expression = re.sub(r"(?<=\[)(\d+)([smh])(?=\])", divide, rule["expr"])
            expression = re.sub(
                r"> (\d+) \* (60|3600)\b",
                lambda m: f"> {int(m[1]) * int(m[2]) / times:g}",
                expression,
            )
            # Prometheus takes up to 5 s to hear that a rank has taken its target away
            if rule["alert"] == "AuslRankDown":
                rule["for"] = "10s"
            rule["expr"] = re.sub(
                r'(phase="data"\}) > 60\b',
                lambda m: f"{m[1]} > {max(60 / times, 3):g}",
                expression,
            )
    path = folder / "alerts.yml"
    path.write_text(yaml.safe_dump(rules))
    return path


class _Server:
    """A program that listens on a loopback port; stopped by its own process."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self, command: list[str], folder: Path, ready: str) -> None:
        with open(folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(
                lambda: self._answers(ready),
                START_SECONDS,
                f"start of {command[0]} (log in {folder})",
            )
        except AssertionError:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def get(self, path: str, **parameters: str) -> Any:
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with urllib.request.urlopen(f"{self.url}{path}{query}", timeout=10) as response:
            return json.load(response)

    def _answers(self, path: str) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server ended while starting"
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=2):
                return True
        except OSError:
            return False


class Prometheus(_Server):
    """A Prometheus that finds ranks in `targets` and judges them by `rules`."""

    def __init__(
        self,
        folder: Path,
        targets: Path,
        rules: Path,
        alertmanager_port: int | None = None,
        interval: str = "1s",
    ) -> None:
        super().__init__()
        self._folder = folder
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
        config["rule_files"] = [str(rules)]
        managers = [f"127.0.0.1:{alertmanager_port}"] if alertmanager_port else []
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = managers
        config["scrape_configs"][0]["file_sd_configs"] = [
            {"files": [f"{targets}/ausl-*.json"], "refresh_interval": "1s"}
        ]
        self.config = config

    def __enter__(self) -> "Prometheus":
        binary = program("prometheus", "prometheus")
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(self.config))
        arguments = [
            f"--config.file={path}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self._start([binary, *arguments, "--log.level=warn"], self._folder, "/-/ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now; raises HTTPError where it cannot be parsed."""
        return list(self.get("/api/v1/query", query=expression)["data"]["result"])

    def alerts(self) -> list[dict[str, str]]:
        """The labels of each alert that fires now."""
        alerts = self.get("/api/v1/alerts")["data"]["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {labels["alertname"] for labels in self.alerts()}


class Alertmanager(_Server):
    """An Alertmanager with the shipped routes, whose one receiver is a list: `messages`."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.messages: list[dict[str, Any]] = []
        self._receiver: ThreadingHTTPServer | None = None

    def __enter__(self) -> "Alertmanager":
        binary = program("prometheus-alertmanager", "prometheus-alertmanager")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._receiver = _receiver(self.messages)
        config = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
        config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        config["receivers"][0]["webhook_configs"][0]["url"] = (
            f"http://127.0.0.1:{self._receiver.server_port}/"
        )
        path = self._folder / "alertmanager.yml"
        path.write_text(yaml.safe_dump(config))
        arguments = [
            f"--config.file={path}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self._start(
            [binary, *arguments, "--cluster.listen-address=", "--log.level=warn"],
            self._folder,
            "/-/ready",
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._receiver is not None:
            self._receiver.shutdown()
            self._receiver.server_close()


def _receiver(messages: list[dict[str, Any]]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

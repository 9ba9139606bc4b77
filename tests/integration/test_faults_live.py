"""Each kind of trouble, provoked in a real two-rank run, must raise its own alert in a real
Prometheus, and be named in words.

The shipped rules are used with their times divided by FASTER. The run's corpus lies in a real
object store, which is stopped and let go on to make it stall.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ausl_dist.observe import diagnosis
from ausl_dist.observe.dashboard import expressions
from ausl_dist.observe.report import build_report
from ausl_dist.shards import storage
from ausl_dist.shards.writer import ShardWriter
from launch.object_store import ObjectStore
from launch.status import look
from tests.support.corpora import make_corpus
from tests.support.observed_run import ObservedRun
from tests.support.programs import program
from tests.support.prometheus_server import Alertmanager, Prometheus, faster_rules, wait_for

FASTER = 40.0
START_SECONDS = 240.0  # imports alone take a minute where the processors are shared
ALERT_SECONDS = 180.0
FINDING_SECONDS = 120.0
PADDING_BYTES = 1 << 20
# What a run of one small objective without teacher, GPU, cache or restart has nothing to tell
# of.
NOT_HERE = (
    "ausl_cache_hits",
    "ausl_cache_failures",
    "ausl_mfu",
    "ausl_gpu",
    "ausl_objective_weight",
    "ausl_objective_gradient_norm",
    "ausl_objective_teacher",
    "ausl_objective_bank",
    "ausl_fetch_retries",
    "ausl_corrupt_clips",
)

pytestmark = pytest.mark.timeout(900)


class Watched:
    """A run under the eyes of Prometheus and Alertmanager."""

    def __init__(
        self, run: ObservedRun, prometheus: Prometheus, alertmanager: Alertmanager
    ) -> None:
        self.run, self.prometheus, self.alertmanager = run, prometheus, alertmanager

    def wait_for_steps(self, more: int = 1) -> None:
        def steps() -> float:
            return sum(
                float(series["value"][1])
                for series in self.prometheus.query("min(ausl_run_steps_done)")
            )

        wanted = steps() + more
        wait_for(
            lambda: steps() >= wanted or self.fail_if_ended(),
            START_SECONDS,
            f"step {wanted:.0f}",
        )

    def expect(self, alert: str, before: set[str]) -> None:
        """Wait until `alert` fires; nothing else may have begun to fire since `before`."""
        wait_for(
            lambda: alert in self.prometheus.firing(),
            ALERT_SECONDS,
            f"{alert} (firing: {self.prometheus.firing()})",
        )
        assert self.prometheus.firing() - before == {alert}
        wait_for(lambda: alert in self.told(), 60, f"a message about {alert}")

    def expect_calm(self) -> None:
        wait_for(lambda: not self.prometheus.firing(), ALERT_SECONDS, "the end of all alerts")

    def told(self) -> set[str]:
        return {
            alert["labels"]["alertname"]
            for message in self.alertmanager.messages
            for alert in message["alerts"]
        }

    def finding(self, kind: str) -> str:
        """Wait until `status` and the report tell of this kind of trouble; returns the
        sentence.
        """

        def sentence() -> str:
            rows = look(self.run.folder, time.time()).rows
            return next(
                (
                    text.removeprefix(f"{kind}: ")
                    for name, text in rows
                    if name == "trouble" and text.startswith(kind)
                ),
                "",
            )

        found = str(wait_for(sentence, FINDING_SECONDS, f"a finding about {kind}"))
        wait_for(
            lambda: f"<b>{kind}</b>" in build_report(self.run.folder),
            FINDING_SECONDS,
            f"{kind} in the report",
        )
        return found

    def fail_if_ended(self) -> bool:
        assert self.run.exit_codes() == [None, None], self.run.logs()
        return False


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An object store of its own: it is going to be stopped."""
    with (
        ObjectStore(tmp_path_factory.mktemp("faults-store")) as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in store.environment.items():
            patch.setenv(name, value)
        store.make_bucket("corpora")
        yield store


def upload(folder: Path, name: str) -> str:
    """Copy a corpus into the store; returns its URL."""
    url = f"s3://corpora/{name}"
    for path in sorted(folder.iterdir()):
        storage.upload(path, storage.join(url, path.name))
    return url


def corpus_of(folder: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """A corpus of 32 drawn clips whose videos are changed before they are written and indexed."""
    add: Any = ShardWriter.add

    def add_changed(self: ShardWriter, key: str, meta: Any, video: bytes, *rest: Any) -> None:
        add(self, key, meta, change(int(key.rsplit("-", 1)[1]), video), *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardWriter, "add", add_changed)
        return make_corpus(folder, clips=32, frames=24, size=64)


def padded(number: int, video: bytes) -> bytes:
    """The same video with a mebibyte of nothing at its end: so large that a rank cannot hold
    many steps of them ahead.
    """
    return video + (PADDING_BYTES + 8).to_bytes(4, "big") + b"free" + bytes(PADDING_BYTES)


def damaged(number: int, video: bytes) -> bytes:
    """Every fourth video is cut in half; as this is how they are indexed, checksums are right,
    and only decoding shows it.
    """
    return video[: len(video) // 2] if number % 4 == 3 else video


@pytest.fixture(scope="module")
def watched(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    program("prometheus", "prometheus")
    program("prometheus-alertmanager", "prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("faults")
    corpus = upload(corpus_of(folder / "corpus", padded), "drawn")
    with ExitStack() as stack:
        alertmanager = stack.enter_context(Alertmanager(folder / "alertmanager"))
        rules = faster_rules(FASTER, folder)
        prometheus = stack.enter_context(
            Prometheus(folder / "prometheus", folder / "targets", rules, alertmanager.port)
        )
        run = stack.enter_context(ObservedRun(folder / "run", corpus, folder / "targets"))
        watching = Watched(run, prometheus, alertmanager)
        wait_for(
            lambda: prometheus.query("ausl_steps_total > 0") or watching.fail_if_ended(),
            START_SECONDS,
            "the first step",
        )
        watching.wait_for_steps(30)
        yield watching


def test_a_healthy_run_raises_no_alert_and_fills_the_dashboard(watched: Watched) -> None:
    watched.expect_calm()
    asked = [
        expression.replace("$__rate_interval", "1m").replace("$run", "observed")
        for expression in expressions()
    ]
    for expression in asked:
        if not any(name in expression for name in NOT_HERE):
            wait_for(
                lambda expression=expression: watched.prometheus.query(expression),
                180,
                f"data for {expression}",
            )
    assert diagnosis.findings(watched.run.folder) == []


def test_a_profile_is_had_by_touching_a_file(watched: Watched) -> None:
    (watched.run.folder / "profile").touch()
    traces = wait_for(
        lambda: list(watched.run.folder.glob("profiles/*-rank-00000/operators.txt")),
        120,
        "a profile of rank 0",
    )
    assert "aten::" in traces[0].read_text()


def test_a_collapse(watched: Watched) -> None:
    before = watched.prometheus.firing()
    watched.run.provoke("collapse")
    watched.expect("AuslCollapse", before)
    assert (
        "objective ranking has collapsed: the effective rank of its features is 1.0"
        in watched.finding("collapse")
    )
    watched.run.provoke("")
    watched.expect_calm()


def test_a_slow_rank(watched: Watched) -> None:
    before = watched.prometheus.firing()
    watched.run.provoke("slow")
    watched.expect("AuslSlowRank", before)
    assert {
        labels["rank"]
        for labels in watched.prometheus.alerts()
        if labels["alertname"] == "AuslSlowRank"
    } == {"1"}
    assert watched.finding("slow rank").startswith("rank 1 (")
    watched.run.provoke("")
    watched.expect_calm()


def test_a_store_that_stalls(
    watched: Watched, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "WAITS_SECONDS", 2.0)
    before = watched.prometheus.firing()
    os.kill(store.process, signal.SIGSTOP)
    try:
        watched.expect("AuslStarved", before)
        assert "waiting for" in watched.finding("starved")
    finally:
        os.kill(store.process, signal.SIGCONT)
    watched.wait_for_steps(30)
    watched.expect_calm()


def test_a_loss_that_is_not_finite(watched: Watched) -> None:
    before = watched.prometheus.firing()
    watched.run.provoke("nan")
    wait_for(
        lambda: watched.prometheus.query("ausl_steps_skipped_total > 0"), 60, "a skipped step"
    )
    watched.run.provoke("")
    watched.expect("AuslNotFinite", before)
    assert "left out because loss or gradient was not finite" in watched.finding("not finite")


def test_a_killed_rank(watched: Watched) -> None:
    watched.expect_calm()
    watched.run.kill(1)
    watched.expect("AuslRankDown", set())
    assert {
        labels["rank"]
        for labels in watched.prometheus.alerts()
        if labels["alertname"] == "AuslRankDown"
    } == {"1"}
    wait_for(lambda: None not in watched.run.exit_codes(), 60, "the end of the other rank")
    sentence = watched.finding("rank down")
    assert sentence.startswith("rank 1 (")
    assert "fell silent without an end" in sentence
    page = build_report(watched.run.folder)
    for words in ("fell silent without an end", "has collapsed", "not finite"):
        assert words in page


def test_a_corrupt_shard(store: ObjectStore, tmp_path: Path) -> None:
    corpus = upload(corpus_of(tmp_path / "corpus", damaged), "damaged")
    budgets = {
        "decode": 0.08
    }  # 80 of a thousand; half of them are used up after about forty steps
    with ExitStack() as stack:
        alertmanager = stack.enter_context(Alertmanager(tmp_path / "alertmanager"))
        rules = faster_rules(FASTER, tmp_path)
        prometheus = stack.enter_context(
            Prometheus(tmp_path / "prometheus", tmp_path / "targets", rules, alertmanager.port)
        )
        data = {
            "corpora": {"main": {"url": corpus}},
            "budgets": budgets,
            "image_size": 32,
            "lanes": 2,
            "clips_per_lane": 4,
        }
        observe = {
            "exporter": {"discovery_folder": str(tmp_path / "targets")},
            "heartbeat_seconds": 0.5,
            "clip_budgets": budgets,
        }
        run = stack.enter_context(
            ObservedRun(
                tmp_path / "run", corpus, tmp_path / "targets", data=data, observe=observe
            )
        )
        watching = Watched(run, prometheus, alertmanager)
        wait_for(
            lambda: prometheus.query("ausl_steps_total > 0") or watching.fail_if_ended(),
            START_SECONDS,
            "the first step",
        )
        watching.expect("AuslCorruptBudgetNear", set())
        sentence = watching.finding("corrupt")
        assert "could not be used (decode); for instance main/" in sentence
        wait_for(
            lambda: None not in run.exit_codes(),
            120,
            "the end of the run, when the budget is passed",
        )
        assert "the budget allows" in run.logs()
        assert "BudgetPassed" in watching.finding("failed")
        # the targets are gone: a run that ends by itself is not a rank that was killed
        time.sleep(3)
        assert "AuslRankDown" not in prometheus.firing()

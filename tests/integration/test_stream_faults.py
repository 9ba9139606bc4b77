"""Faults of an object store: the batches are byte for byte those of an undisturbed run, or the
run stops and says why.

A real S3 server on loopback stands behind a proxy that misbehaves on a seeded schedule.
"""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from ausl_dist.batch import Batch, Needs, View
from ausl_dist.json_lines import read_json_lines
from ausl_dist.shards import s3, storage
from ausl_dist.stream.ledger import BudgetPassed
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import Budgets, CorpusSource, DataSettings
from launch.object_store import ObjectStore
from tests.support.corpora import make_corpus
from tests.support.fault_proxy import FaultProxy

pytestmark = pytest.mark.timeout(240)

VIEW = View(flip=0.5)
PLAN = Needs.union([Needs({VIEW: (0, 2)}, landmarks=True)])
STEPS = 12
URL = "s3://faults/corpus"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(
        tmp_path_factory.mktemp("corpus"), clips=48, frames=8, size=64, chunk_bytes=24 << 10
    )


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    with open_loader(str(corpus), tmp_path_factory.mktemp("run")) as loader:
        return [next(loader) for _ in range(STEPS)]


@pytest.fixture
def server_port(object_store: "object", corpus: Path) -> int:
    publish(object_store, corpus)
    return port_of(object_store)


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "READ_TIMEOUT_SECONDS", 1)
    s3._client.cache_clear()


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FaultProxy]]:
    """Start a proxy and point every client at it."""
    running: list[FaultProxy] = []

    def start(port: int, *kinds: str, **schedule: object) -> FaultProxy:
        proxy = FaultProxy(port, kinds, **schedule).__enter__()  # type: ignore[arg-type]
        running.append(proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        return proxy

    yield start
    for proxy in running:
        proxy.__exit__(None, None, None)


def port_of(store: "object") -> int:
    return urlsplit(store.endpoint).port or 0  # type: ignore[attr-defined]


def publish(store: "object", corpus: Path) -> None:
    store.make_bucket("faults")  # type: ignore[attr-defined]
    for path in sorted(corpus.iterdir()):
        storage.upload(path, storage.join(URL, path.name))


def open_loader(url: str, run_folder: Path, **changes: object) -> Loader:
    values = {
        "image_size": 32,
        "lanes": 4,
        "clips_per_lane": 2,
        "shuffle_window": 8,
        "memory_mib": 16,
        **changes,
    }
    settings = DataSettings({"main": CorpusSource(url)}, **values)  # type: ignore[arg-type]
    return Loader(settings, PLAN, seed=1, rank=0, world_size=1, run_folder=run_folder)


def assert_same(batches: list[Batch], reference: list[Batch]) -> None:
    for one, other in zip(batches, reference, strict=True):
        assert one.keys == other.keys
        assert one.weight.all()
        assert torch.equal(one.frames[VIEW], other.frames[VIEW])
        assert torch.equal(one.landmarks[VIEW], other.landmarks[VIEW])


@pytest.mark.parametrize(
    "kind",
    [
        *("slow_down", "internal_error", "cut", "reset", "short", "flip", "stall"),
        *("trickle_head", "trickle_body", "trickle_error", "huge_error"),
    ],
)
@pytest.mark.parametrize("reader", ["botocore", "fsspec"])
def test_batches_are_those_of_an_undisturbed_run(
    kind: str,
    reader: str,
    server_port: int,
    behind: Callable[..., FaultProxy],
    undisturbed: list[Batch],
    tmp_path: Path,
) -> None:
    """Each read that meets a fault is repeated within `retry_seconds`, whichever way it goes."""
    proxy = behind(server_port, kind, share=0.4, seed=3)
    memory_before = peak_memory()
    with open_loader(URL, tmp_path, retry_seconds=12.0, reader=reader) as loader:
        batches = [next(loader) for _ in range(STEPS)]
        counts = loader.counts
    assert_same(batches, undisturbed)
    assert peak_memory() - memory_before < 256 << 20
    assert proxy.faults[kind] >= 3, "the schedule must have struck"
    assert counts["retries"] >= 3
    assert not (tmp_path / "ledger.jsonl").exists()


def test_all_faults_together(
    server_port: int,
    behind: Callable[..., FaultProxy],
    undisturbed: list[Batch],
    tmp_path: Path,
) -> None:
    proxy = behind(
        server_port,
        "slow_down",
        "internal_error",
        "cut",
        "reset",
        "short",
        "flip",
        "stall",
        share=0.4,
        seed=5,
    )
    with open_loader(URL, tmp_path) as loader:
        start = time.monotonic()
        batches = [next(loader) for _ in range(STEPS)]
        print(
            f"{proxy.faults.total()} faults in {proxy.reads} reads cost "
            f"{time.monotonic() - start:.1f} s"
        )
    assert_same(batches, undisturbed)
    assert len(proxy.faults) >= 4


def test_a_server_that_restarts_costs_time_and_nothing_else(
    corpus: Path,
    behind: Callable[..., FaultProxy],
    undisturbed: list[Batch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "store"
    with ObjectStore(folder) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        publish(store, corpus)
        proxy = behind(port_of(store))
        loader = open_loader(URL, tmp_path, shuffle_window=2, fetch_threads=1)
        batches = [next(loader)]
    finished = threading.Event()

    def restart() -> None:
        time.sleep(2)
        with ObjectStore(folder) as again:
            proxy.port = port_of(again)
            finished.wait(200)

    server = threading.Thread(target=restart)
    server.start()
    try:
        with loader:
            batches += [next(loader) for _ in range(STEPS - 1)]
            assert loader.counts["retries"] > 0, "nothing was read while the server was down"
    finally:
        finished.set()
        server.join(60)
    with open_loader(str(corpus), tmp_path, shuffle_window=2) as local:
        assert_same(batches, [next(local) for _ in range(STEPS)])


def test_an_object_replaced_under_the_run_stops_it(
    server_port: int,
    object_store: "object",
    corpus: Path,
    behind: Callable[..., FaultProxy],
    tmp_path: Path,
) -> None:
    behind(server_port)
    loader = open_loader(URL, tmp_path, fetch_threads=1, shuffle_window=2)
    for path in sorted(corpus.glob("*.tar")):
        storage.write_bytes(storage.join(URL, path.name), path.read_bytes()[::-1])
    try:
        with (
            loader,
            pytest.raises(
                BudgetPassed,
                match=r"shard-\d+\.tar bytes \d+-\d+: the bytes are not those of the index",
            ),
        ):
            run_for(loader, 40)
    finally:
        publish(object_store, corpus)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [("expired", "credentials are right and have not expired"), ("denied", "access refused")],
)
def test_a_credential_that_is_no_good_any_more_stops_the_run_at_once(
    kind: str,
    complaint: str,
    server_port: int,
    behind: Callable[..., FaultProxy],
    tmp_path: Path,
) -> None:
    behind(server_port, kind, share=1.0)
    start = time.monotonic()
    with (
        open_loader(URL, tmp_path) as loader,
        pytest.raises(BudgetPassed, match=rf"shard-\d+\.tar bytes \d+-\d+.*{complaint}"),
    ):
        next(loader)
    assert time.monotonic() - start < 20


def test_a_server_that_never_recovers_stops_the_run_at_the_deadline(
    server_port: int, behind: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    behind(server_port, "slow_down", share=1.0)
    start = time.monotonic()
    with (
        open_loader(URL, tmp_path, retry_seconds=3.0) as loader,
        pytest.raises(
            BudgetPassed,
            match=r"shard-\d+\.tar bytes \d+-\d+: gave up after \d+ tries in 3 s.*reduce your "
            r"request rate",
        ),
    ):
        next(loader)
    assert time.monotonic() - start < 30


def test_a_run_may_go_on_without_what_cannot_be_read(
    server_port: int, behind: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    """With a budget for it, clips that cannot be fetched keep their slots with weight 0, and
    every one is in the ledger.
    """
    behind(server_port, "denied", share=0.5, seed=2)
    with open_loader(URL, tmp_path, budgets=Budgets(fetch=1.0)) as loader:
        batches = [next(loader) for _ in range(STEPS)]
    empty = sum(int((batch.weight == 0).sum()) for batch in batches)
    lines = [
        line for line in read_json_lines(tmp_path / "ledger.jsonl") if line["step"] < STEPS
    ]
    assert 0 < empty == len(lines)
    assert {line["reason"] for line in lines} == {"fetch"}


@pytest.mark.parametrize("reader", ["botocore", "fsspec"])
@pytest.mark.parametrize("kind", ["trickle_head", "trickle_error", "trickle_body", "stall"])
def test_the_deadline_holds_for_every_chunk_of_a_store_that_never_answers(
    kind: str, reader: str, server_port: int, behind: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    """Also for the chunks that wait for one of the two threads: the store has one deadline to
    come back in, not one for each of them.
    """
    with open_loader(URL, tmp_path / "there") as there:
        assert len(there.indexes["main"].chunks) > 6
    behind(server_port, kind, share=1.0)
    lost = Budgets(fetch=1.0)
    start = time.monotonic()
    with open_loader(
        URL, tmp_path, retry_seconds=6.0, fetch_threads=2, budgets=lost, reader=reader
    ) as loader:
        for _ in range(3):
            assert not next(loader).weight.any()
    assert time.monotonic() - start < 20
    tries = {line["detail"] for line in read_json_lines(tmp_path / "ledger.jsonl")}
    assert any("gave up after" in detail and "after 1 tries" not in detail for detail in tries)


@pytest.mark.parametrize("name", [b"index.json", b"index.chunks.npy"])
@pytest.mark.parametrize(
    "kind", ["flip", "cut", "short", "slow_down", "trickle_head", "trickle_body", "huge_error"]
)
def test_reads_of_the_index_are_repeated_within_the_setting(
    kind: str,
    name: bytes,
    server_port: int,
    behind: Callable[..., FaultProxy],
    undisturbed: list[Batch],
    tmp_path: Path,
) -> None:
    proxy = behind(server_port, kind, share=1.0, seed=3, most=2, names=name)
    memory_before = peak_memory()
    with open_loader(URL, tmp_path, retry_seconds=12.0) as loader:
        batches = [next(loader)]
    assert_same(batches, undisturbed[:1])
    assert proxy.faults.total() == 2, "the schedule must have struck"
    assert peak_memory() - memory_before < 256 << 20


def test_an_index_that_cannot_be_read_stops_the_start_at_the_deadline(
    server_port: int, behind: Callable[..., FaultProxy], tmp_path: Path
) -> None:
    behind(server_port, "trickle_body", share=1.0, names=b"index.json")
    start = time.monotonic()
    with pytest.raises(OSError, match=r"index\.json.*gave up after|gave up after.*index\.json"):
        open_loader(URL, tmp_path, retry_seconds=3.0)
    assert time.monotonic() - start < 12


def peak_memory() -> int:
    """Bytes that this process has ever held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def run_for(loader: Loader, steps: int) -> None:
    for _ in range(steps):
        next(loader)

"""Two that change one corpus at once leave what one after the other would have left."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from ausl_dist.corpus import lock as locking
from ausl_dist.corpus.lock import LOCK_NAME, locked
from ausl_dist.shards import storage
from ausl_dist.shards.index import Index
from ausl_dist.shards.publish import publish
from launch.object_store import ObjectStore
from tests.support.corpora import make_corpus

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
ONE = (
    "import sys\n"
    "from ausl_dist.corpus.takedown import Request, take_down\n"
    "sys.stdin.readline()\n"
    "request = Request(sources=(sys.argv[2],))\n"
    "print(take_down(sys.argv[1], request, date='2030-01-01').clips)"
)


def take_down_at_once(url: str, sources: tuple[str, ...]) -> list[int]:
    """One process for each source, all let go at the same moment; the clips that each removed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE, url, source],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for source in sources
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return [int(output) for output in outputs]


def check_what_is_left(url: str, clips: int) -> None:
    index = Index.load(url)
    assert index.num_clips == clips
    assert all(storage.exists(storage.join(url, row.name)) for row in index.shards)
    statement = storage.read_bytes(storage.join(url, "corpus.json"), 1 << 20).decode()
    assert f'"clips": {clips},' in statement
    for leftover in (LOCK_NAME, "takedown.json"):
        assert not storage.exists(storage.join(url, leftover))


@pytest.mark.parametrize("attempt", range(3))
def test_take_downs_at_once_remove_all_that_was_asked_for(tmp_path: Path, attempt: int) -> None:
    folder = make_corpus(tmp_path, clips=12, shard_bytes=40 << 10)
    publish(folder, str(folder), name="drawn")
    assert take_down_at_once(str(folder), ("drawing-1", "drawing-4", "drawing-0")) == [2, 2, 2]
    check_what_is_left(str(folder), 6)


def test_take_downs_at_once_in_an_object_store(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    object_store.make_bucket("two-at-once")
    folder = make_corpus(tmp_path, clips=12, shard_bytes=40 << 10)
    for attempt in range(2):
        url = f"s3://two-at-once/drawn-{attempt}"
        publish(folder, url, name="drawn")
        assert take_down_at_once(url, ("drawing-1", "drawing-4", "drawing-0")) == [2, 2, 2]
        check_what_is_left(url, 6)


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    inside, most, waits = 0, 0, list[str]()

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locked(str(tmp_path), waits.append):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert waits
    assert not list(tmp_path.iterdir())


def test_a_lock_in_a_store_whose_holder_died_is_taken_over_and_its_holder_told(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store.make_bucket("locks")
    monkeypatch.setattr(locking, "RENEW_SECONDS", 3600.0)  # the first holder stands still
    with locked("s3://locks/c") as first:
        first.confirm()
        with locked("s3://locks/c", lease=1.0) as second:
            second.confirm()
            with pytest.raises(OSError, match="taken over"):
                first.confirm()
        with pytest.raises(OSError, match="taken over"):
            first.confirm()
    assert not storage.exists(f"s3://locks/c/{LOCK_NAME}")


def test_a_lock_in_a_store_is_kept_by_its_holder(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_store.make_bucket("kept")
    monkeypatch.setattr(locking, "RENEW_SECONDS", 0.2)
    order = []

    def second() -> None:
        with locked("s3://kept/c", lease=1.0):
            order.append("second")

    with locked("s3://kept/c") as first:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(3)
        first.confirm()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


class CarelessStore:
    """An S3 store that takes every write, whatever its conditions; or knows none."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.objects: dict[str, bytes] = {}

    def call_s3(self, what: str, *, Key: str, Body: bytes = b"", **options: str) -> object:
        if what == "put_object" and self.status != 200:
            response = {"ResponseMetadata": {"HTTPStatusCode": self.status}}
            raise OSError("not implemented") from ClientError(response, what)  # type: ignore[arg-type]
        if what == "put_object":
            self.objects[Key] = Body
        elif what == "delete_object":
            self.objects.pop(Key, None)
        return {"ETag": str(hash(self.objects.get(Key)))}


@pytest.mark.parametrize("status", [200, 501])
def test_a_store_that_ignores_conditions_is_refused(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CarelessStore(status)
    monkeypatch.setattr(locking.storage, "connect", lambda url: (store, "bucket/c/corpus.lock"))
    monkeypatch.setattr(locking.storage, "local_path", lambda url: None)
    with pytest.raises(ValueError, match="If-None-Match"), locked("s3://bucket/c"):
        pass
    assert store.objects == {}


def test_where_there_is_no_corpus_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(str(tmp_path / "none")):
        pass
    assert not (tmp_path / "none").exists()

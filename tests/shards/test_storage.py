"""Storage: the same few verbs on a path and on an object store, whole files or none, and errors
that name the object.
"""

import contextlib
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ausl_dist.shards import storage
from ausl_dist.shards.index import Index
from ausl_dist.shards.ranges import Way, open_ranges
from ausl_dist.shards.retry import DeadlinePassed, Permanent, Retry


def instant(deadline_seconds: float = 10.0) -> tuple[Retry, list[float]]:
    """A retry whose clock moves only by its own sleeps."""
    slept: list[float] = []
    return Retry(
        deadline_seconds, clock=lambda: sum(slept), sleep=slept.append, jitter=lambda: 1.0
    ), slept


def test_a_call_is_repeated_with_growing_pauses_until_it_succeeds() -> None:
    retry, slept = instant()
    answers = iter([OSError("one"), OSError("two"), "done"])

    def call(seconds_left: float) -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    seen: list[str] = []
    assert retry.call(call, lambda error: seen.append(str(error))) == "done"
    assert seen == ["one", "two"]
    assert slept == [0.1, 0.2]


def test_a_call_that_keeps_failing_stops_at_the_deadline_and_says_why() -> None:
    retry, slept = instant(30.0)

    def call(seconds_left: float) -> None:
        assert 0 < seconds_left <= 30
        raise OSError("the store is down")

    with pytest.raises(
        DeadlinePassed, match=r"gave up after \d+ tries in 30 s: the store is down"
    ):
        retry.call(call)
    assert sum(slept) <= 30
    assert max(slept) <= 15


def test_the_last_try_has_time_to_say_what_is_wrong() -> None:
    retry, _ = instant(30.0)
    left: list[float] = []

    def call(seconds_left: float) -> None:
        left.append(seconds_left)
        raise OSError("the store is down")

    with pytest.raises(DeadlinePassed):
        retry.call(call)
    assert min(left) >= 3.0


def test_an_error_that_no_repetition_cures_is_raised_at_once() -> None:
    retry, slept = instant()

    def call(seconds_left: float) -> None:
        raise Permanent(PermissionError("no"))

    with pytest.raises(PermissionError, match="no"):
        retry.call(call)
    assert not slept


def round_trip(url: str, tmp_path: Path) -> None:
    name = storage.join(url, "folder/a.bin")
    assert not storage.exists(name)
    storage.write_bytes(name, b"first")
    storage.write_bytes(name, b"second")
    assert storage.exists(name)
    assert storage.read_bytes(name, 100) == b"second"
    storage.write_bytes(storage.join(url, "empty"), b"")
    assert storage.read_bytes(storage.join(url, "empty"), 100) == b""
    local = tmp_path / "local.bin"
    local.write_bytes(os.urandom(100_000))
    storage.upload(local, storage.join(url, "up/load.bin"))
    assert storage.read_bytes(storage.join(url, "up/load.bin"), 1 << 20) == local.read_bytes()
    filesystem, root = storage.connect(url)
    assert storage.read_range(filesystem, f"{root}/folder/a.bin", 1, 4, 10.0) == b"eco"
    with pytest.raises(ValueError, match="has 100000 bytes, expected at most 10"):
        storage.read_bytes(storage.join(url, "up/load.bin"), 10)
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.read_bytes(storage.join(url, "nothing"), 10)
    with pytest.raises(OSError, match=r"only 6 of 100 bytes|InvalidRange|range"):
        storage.read_range(filesystem, f"{root}/folder/a.bin", 0, 100, 10.0)


def test_the_verbs_on_a_path(tmp_path: Path) -> None:
    round_trip(str(tmp_path / "store"), tmp_path)
    assert [path.name for path in (tmp_path / "store").rglob(".*")] == [], (
        "temporary files are left behind"
    )


@pytest.mark.timeout(120)
def test_the_verbs_on_an_object_store(object_store: "object", tmp_path: Path) -> None:
    object_store.make_bucket("verbs")  # type: ignore[attr-defined]
    round_trip("s3://verbs/prefix", tmp_path)


@pytest.mark.timeout(120)
def test_a_missing_corpus_on_an_object_store_says_what_to_check(object_store: "object") -> None:
    with pytest.raises(FileNotFoundError, match="AWS_ENDPOINT_URL"):
        Index.load("s3://no-such-bucket/corpus")


@pytest.mark.timeout(120)
def test_wrong_credentials_are_an_answer_and_appear_nowhere(
    object_store: "object", monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tell-nobody")
    with pytest.raises(PermissionError, match="credentials") as caught:
        storage.read_bytes("s3://verbs/prefix/folder/a.bin", 100)
    s3fs.S3FileSystem.clear_instance_cache()
    assert "tell-nobody" not in str(caught.value)


def test_credentials_in_an_address_are_refused() -> None:
    with pytest.raises(ValueError, match="AWS_SECRET_ACCESS_KEY") as caught:
        storage.connect("s3://key:secret@bucket/prefix")
    assert "secret@" not in str(caught.value)


def test_a_service_whose_client_is_not_installed_says_what_to_install() -> None:
    with pytest.raises(ValueError, match="gcsfs"):
        storage.connect("gs://bucket/prefix")


@pytest.mark.timeout(60)
def test_a_server_that_is_not_there_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(name, value)
    filesystem, root = storage.connect("s3://bucket/key")
    with pytest.raises(OSError, match="bucket/key"):
        storage.read_range(filesystem, root, 0, 10, 5.0)


class Trickle(BaseHTTPRequestHandler):
    """Answers with a body of which one byte comes every tenth of a second."""

    def do_GET(self) -> None:
        self.send_response(206)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):  # the reader has gone
            for _ in range(300):
                self.wfile.write(b"x")
                time.sleep(0.1)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("way", "complaint"), [("botocore", "are slower than"), ("fsspec", "not done within 0.5 s")]
)
def test_a_body_that_trickles_ends_early_enough_for_another_try(
    way: Way, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = HTTPServer(("127.0.0.1", 0), Trickle)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(name, value)
    read = open_ranges("s3://bucket", way)
    storage.connect("s3://bucket")[0].connect()  # which takes seconds on a busy machine
    start = time.monotonic()
    with pytest.raises(OSError, match=rf"bucket/key bytes 0-999999.*{complaint}"):
        read("key", 0, 1_000_000, 1.0)
    assert time.monotonic() - start < 10
    thread.join(10)
    server.server_close()
    assert not thread.is_alive(), "the connection was not closed"


def test_a_bucket_that_does_not_exist_is_named_before_the_work_and_not_made(
    object_store: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch.object_store import ObjectStore
    from tools import build_corpus

    assert isinstance(object_store, ObjectStore)
    object_store.make_bucket("there")
    storage.check_bucket("s3://there/faces")
    storage.check_bucket(str(tmp_path))
    command = ["build_corpus", str(tmp_path / "no-videos"), "--out", "s3://nowhere/faces"]
    monkeypatch.setattr("sys.argv", command)
    for _ in range(2):  # the first one has not made it either
        with pytest.raises(FileNotFoundError, match="there is no bucket nowhere"):
            build_corpus.main()


def test_a_run_is_not_prepared_whose_buckets_do_not_exist(
    object_store: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from launch.prepare import check_buckets

    def run(url: str, upload: str | None = None) -> dict[str, object]:
        return {"data": {"corpora": {"main": {"url": url}}}, "checkpoint": {"upload": upload}}

    with pytest.raises(FileNotFoundError, match="there is no bucket nowhere"):
        check_buckets(run("s3://nowhere/faces"))
    with pytest.raises(FileNotFoundError, match="there is no bucket copies-nowhere"):
        check_buckets(run(str(tmp_path), "s3://copies-nowhere/run"))
    assert capsys.readouterr().err == ""


def test_a_store_that_cannot_be_asked_from_here_does_not_keep_a_run_from_being_submitted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from launch import prepare

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(prepare, "STORE_SECONDS", 0.5)
    corpora = {"main": {"url": "s3://faces/train"}}
    prepare.check_buckets({"data": {"corpora": corpora}, "checkpoint": {"upload": None}})
    assert "not checked from here: " in capsys.readouterr().err

"""The object store serves whoever has its keys, and nobody else on the machine."""

import contextlib
import http.client
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s3fs

from launch.object_store import ObjectStore
from launch.ports import answers

CONTENT = b"faces of people" * 1000
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    [0, 0, 0, 4, 0, 0, 0, 0, 0]
)  # as gRPC begins


@pytest.fixture(scope="module")
def store(object_store: ObjectStore) -> ObjectStore:
    object_store.make_bucket("private")
    client().pipe("private/clip", CONTENT)
    return object_store


def client(**options: object) -> s3fs.S3FileSystem:
    """With the keys that stand in the environment."""
    return s3fs.S3FileSystem(
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        skip_instance_cache=True,
        use_listings_cache=False,
        **options,
    )


def client_with(variables: dict[str, str]) -> s3fs.S3FileSystem:
    """With the keys of another store."""
    return s3fs.S3FileSystem(
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        key=variables["AWS_ACCESS_KEY_ID"],
        secret=variables["AWS_SECRET_ACCESS_KEY"],
        skip_instance_cache=True,
    )


def ask(port: int, method: str, path: str) -> tuple[int, bytes]:
    """Status and body of the answer; a server that refuses before it has read may hang up in it."""
    content = b"stranger" if method in ("PUT", "POST") else None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    status, body = 0, b""
    with (
        contextlib.closing(connection),
        contextlib.suppress(OSError, http.client.HTTPException),
    ):
        connection.request(method, path, content)
        answer = connection.getresponse()
        status = answer.status
        body = answer.read()
    return status, body


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/private/clip", "/buckets/private/clip", "/buckets/?recursive=true"]
)
def test_no_port_reads_writes_or_deletes_without_a_key(
    store: ObjectStore, method: str, path: str
) -> None:
    for name, port in store.ports.items():
        status, body = ask(port, method, path)
        assert not 200 <= status < 300, f"{name}: {status} {body[:100]!r}"
        assert CONTENT not in body
    assert client().cat_file("private/clip") == CONTENT


@pytest.mark.parametrize("path", ["/dir/assign", "/dir/lookup?volumeId=1", "/vol/grow?count=1"])
def test_nobody_gets_a_place_to_write_to_or_to_read_from(store: ObjectStore, path: str) -> None:
    for name, port in store.ports.items():
        assert ask(port, "GET", path)[0] not in range(200, 300), name


@pytest.mark.parametrize("path", ["/status", "/", "/ui/index.html", "/healthz", "/favicon.ico"])
def test_nobody_hears_of_disks_and_volumes(store: ObjectStore, path: str) -> None:
    for role in ("master", "volume", "filer"):
        status, body = ask(store.ports[role], "GET", path)
        assert status not in range(200, 300), (role, body[:100])
        assert b"DiskStatuses" not in body


def test_s3_refuses_without_keys_and_with_wrong_ones(store: ObjectStore) -> None:
    for stranger in (client(anon=True), client(key="ausl", secret="ausl")):
        with pytest.raises((PermissionError, FileNotFoundError)):
            stranger.cat_file("private/clip")
        with pytest.raises(PermissionError):
            stranger.pipe("private/other", b"stranger")


@pytest.mark.parametrize("role", ["master", "volume", "filer", "s3"])
def test_servers_behind_s3_talk_to_nobody_without_the_certificate(
    store: ObjectStore, role: str
) -> None:
    port = store.ports[f"{role}.grpc"]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        plain.sendall(HTTP2)
        assert settings_frame(plain) is False
    assert talks(port, None) is False
    assert talks(port, store.folder) is True, "the servers themselves must be let in"


def talks(port: int, folder: Path | None) -> bool:
    """Whether a gRPC server answers over TLS, with the certificate in `folder` or without one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if folder is not None:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(HTTP2)
            return settings_frame(connection)
    except OSError:
        return False


def settings_frame(connection: socket.socket) -> bool:
    """Whether the first thing that is said is HTTP/2's SETTINGS."""
    try:
        said = connection.recv(9)
    except OSError:
        return False
    return len(said) == 9 and said[3] == 4


def test_what_lies_on_disk_is_the_owners_alone(store: ObjectStore) -> None:
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    for name in ("identities.json", "security.toml", "tls.key"):
        assert stat.S_IMODE((store.folder / name).stat().st_mode) == 0o600


def test_the_verb_prints_what_to_export_and_ends_with_its_server(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "launch",
        "store",
        str(tmp_path / "store"),
        "--bucket",
        "mine",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as verb:
        assert verb.stdout is not None
        assert "s3://mine" in verb.stdout.readline()
        exports = [verb.stdout.readline().removeprefix("export ").strip() for _ in range(4)]
        told = dict(line.split("=", 1) for line in exports)
        assert "mine" in client_with(told).ls("")
        verb.send_signal(signal.SIGINT)
        assert verb.wait(30) == 0
    assert not answers(int(told["AWS_ENDPOINT_URL"].rsplit(":", 1)[1]))


def test_data_and_keys_are_there_again_at_the_next_start_and_no_socket_stays(
    tmp_path: Path,
) -> None:
    of_others = set(Path("/tmp").glob("*.sock"))
    with ObjectStore(tmp_path / "store") as first:
        first.make_bucket("again")
        keys, ports = first.environment, first.ports
        client_with(keys).pipe("again/last", CONTENT)  # answered, and stopped at once
    left = [
        path.name
        for path in set(Path("/tmp").glob("*.sock")) - of_others
        for port in ports.values()
        if str(port) in path.name
    ]
    assert left == []
    with ObjectStore(tmp_path / "store") as second:
        assert second.environment | {"AWS_ENDPOINT_URL": ""} == keys | {"AWS_ENDPOINT_URL": ""}
        assert client_with(second.environment).cat_file("again/last") == CONTENT


def test_a_server_ends_with_whoever_started_it_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from launch.object_store import ObjectStore\n"
        "with ObjectStore(pathlib.Path(sys.argv[1])) as store:\n"
        "    print(store.ports['s3'], flush=True)\n"
        "    os.kill(os.getpid(), 9)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "store")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    port = int(ended.stdout)
    deadline = time.monotonic() + 30
    while answers(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers(port)

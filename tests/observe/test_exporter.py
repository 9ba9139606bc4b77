"""Metrics must be readable by those who may, by nobody else, and never at the cost of the run."""

import base64
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ausl_dist.observe.exporter import Exporter, push, textfile_path, write_textfile
from ausl_dist.observe.metrics import make_registry
from ausl_dist.observe.settings import ExporterSettings
from tests.support.certificates import make_certificate
from tests.support.observing import state


@contextmanager
def serving(run_folder: Path, rank: int = 0, **settings: object) -> Iterator[Exporter]:
    of_rank = state(rank=rank)
    exporter = Exporter(
        ExporterSettings(**settings), of_rank.identity, run_folder, make_registry(of_rank)
    )  # type: ignore[arg-type]
    try:
        yield exporter
    finally:
        exporter.close()


def fetch(url: str, context: ssl.SSLContext | None = None, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10, context=context) as response:
        return str(response.read().decode())


def test_metrics_are_served_and_announced_until_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as exporter:
        assert "ausl_steps_total 0.0" in fetch(exporter.url)
        (target,) = (tmp_path / "targets").iterdir()
        assert exporter.url.split("/")[2] in target.read_text()
    assert not target.exists()
    with pytest.raises(urllib.error.URLError):
        fetch(exporter.url)


def test_the_first_free_port_of_a_range_is_taken_and_a_full_range_says_what_to_set(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        with serving(tmp_path, ports=(taken, min(taken + 20, 65535))) as exporter:
            assert int(exporter.url.split(":")[2].split("/")[0]) > taken
        with (
            pytest.raises(OSError, match=r"widen observe\.exporter\.ports"),
            serving(tmp_path, ports=(taken, taken)),
        ):
            pass


def test_an_address_that_is_not_ours_says_which_setting_is_wrong(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"observe\.exporter\.address"),
        serving(tmp_path, address="192.0.2.1"),
    ):
        pass


def test_listening_on_all_addresses_announces_the_host_by_name(tmp_path: Path) -> None:
    with serving(tmp_path, address="0.0.0.0") as exporter:
        assert exporter.url.startswith("http://node7:")
    with serving(tmp_path, address="0.0.0.0", advertise="10.1.2.3") as exporter:
        assert exporter.url.startswith("http://10.1.2.3:")


def test_with_a_password_file_only_those_who_know_it_read(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("prometheus:s3cret\n")
    with serving(tmp_path, password_file=str(secret)) as exporter:
        for headers in (
            {},
            {"Authorization": "Basic " + base64.b64encode(b"prometheus:wrong").decode()},
            {"Authorization": "Basic ä"},
        ):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                fetch(
                    exporter.url,
                    **{
                        name: value.encode().decode("latin-1")
                        for name, value in headers.items()
                    },
                )
        assert "ausl_steps_total" in fetch(
            exporter.url,
            Authorization="Basic " + base64.b64encode(b"prometheus:s3cret").decode(),
        )
    secret.write_text("no colon")
    with (
        pytest.raises(ValueError, match="user:password"),
        serving(tmp_path, password_file=str(secret)),
    ):
        pass


def test_with_a_certificate_it_speaks_tls_and_a_silent_client_holds_nobody_up(
    tmp_path: Path,
) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate))
    with serving(tmp_path, certificate=str(certificate), key=str(key)) as exporter:
        assert exporter.url.startswith("https://")
        assert '"https"' in next((tmp_path / "targets").iterdir()).read_text()
        host, port = exporter.url.split("/")[2].split(":")
        with socket.create_connection((host, int(port))):  # connects, says nothing
            begin = time.monotonic()
            assert "ausl_steps_total" in fetch(exporter.url, context)
            assert time.monotonic() - begin < 5
        with pytest.raises(OSError, match=r"[Cc]onnection|closed|reset|Remote"):
            fetch(exporter.url.replace("https", "http"))


def test_with_a_client_authority_strangers_are_refused(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    stranger = ssl.create_default_context(cafile=str(certificate))
    known = ssl.create_default_context(cafile=str(certificate))
    known.load_cert_chain(certificate, key)
    with serving(
        tmp_path, certificate=str(certificate), key=str(key), client_ca=str(certificate)
    ) as exporter:
        assert "ausl_steps_total" in fetch(exporter.url, known)
        with pytest.raises(OSError, match=r"."):
            fetch(exporter.url, stranger)


def test_the_text_file_carries_the_labels_that_a_target_would(tmp_path: Path) -> None:
    rank = state(rank=3)
    path = textfile_path(str(tmp_path), Path("/runs/demo"), rank.identity)
    write_textfile(path, make_registry(rank, rank.identity.labels))
    assert path.suffix == ".prom"  # a node exporter reads no other
    assert (
        'ausl_steps_total{attempt="1",node="node7",rank="3",run="demo"} 0.0' in path.read_text()
    )


def test_a_pushgateway_that_is_not_there_is_an_error_the_caller_hears_of(
    tmp_path: Path,
) -> None:
    rank = state()
    with pytest.raises(OSError, match="refused"):
        push("http://127.0.0.1:9", make_registry(rank), rank.identity)

"""One rank's metrics over HTTP, as a text file, or pushed once at the end.

    registry ──▶ HTTP server on a free port ──▶ target file in the discovery folder ──▶ Prometheus
             ├─▶ textfile for a node exporter
             └─▶ Pushgateway, at the end of the run

Served from daemon threads: the training loop is never asked. Without settings for TLS or a
password anyone who reaches the port may read the metrics, so it listens on loopback unless told
otherwise.
"""

import base64
import errno
import hmac
import os
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    CollectorRegistry,
    make_wsgi_app,
    push_to_gateway,
    write_to_textfile,
)

from ausl_dist.observe import discovery
from ausl_dist.observe.settings import ExporterSettings
from ausl_dist.observe.state import RankIdentity

REQUEST_SECONDS = 10.0  # a client that sends nothing holds its thread no longer
PUSH_SECONDS = 10.0

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Exporter:
    """Serves a registry and tells Prometheus where; raises OSError where no port can be had."""

    def __init__(
        self,
        settings: ExporterSettings,
        identity: RankIdentity,
        run_folder: Path,
        registry: CollectorRegistry,
    ) -> None:
        self._identity = identity
        app: App = make_wsgi_app(registry)
        if settings.password_file is not None:
            app = _with_password(app, Path(settings.password_file))
        self._server = _listen(settings, app)
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        folder = (
            Path(settings.discovery_folder)
            if settings.discovery_folder is not None
            else run_folder / "targets"
        )
        self._target = discovery.target_path(folder, run_folder, identity)
        self._refreshed_at = 0.0
        if identity.rank == 0:
            discovery.sweep(folder, settings.stale_minutes * 60)
            discovery.remove_older_attempts(folder, run_folder, identity)
        scheme = "http" if settings.certificate is None else "https"
        address = f"{_advertised(settings, identity)}:{self._server.server_port}"
        self.url = f"{scheme}://{address}/metrics"
        discovery.write_target(self._target, identity, address, scheme)

    def refresh(self, now: float) -> None:
        """Say that this rank is alive, once a minute at most; a target that was swept by
        mistake is not brought back.
        """
        if now - self._refreshed_at >= discovery.REFRESH_SECONDS and self._target.exists():
            os.utime(self._target)
            self._refreshed_at = now

    def close(self) -> None:
        discovery.remove_target(self._target, self._identity)
        self._server.shutdown()
        self._server.server_close()


def textfile_path(folder: str, run_folder: Path, identity: RankIdentity) -> Path:
    return Path(folder) / f"{discovery.file_stem(run_folder, identity)}.prom"


def write_textfile(path: Path, labelled_registry: CollectorRegistry) -> None:
    """Write the metrics for a node exporter's textfile collector, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), labelled_registry)


def push(url: str, registry: CollectorRegistry, identity: RankIdentity) -> None:
    """Leave the last values with a Pushgateway; raises OSError where it does not answer."""
    push_to_gateway(
        url, job="ausl", registry=registry, grouping_key=identity.labels, timeout=PUSH_SECONDS
    )


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: str, port: int, context: ssl.SSLContext | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._context = context
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks the DNS for its own name, which takes seconds where
        # there is none.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = (
            str(self.server_address[0]),
            int(self.server_address[1]),
        )
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        connection, client = super().get_request()
        if self._context is not None:
            # The handshake is left to the request's own thread: a client that stalls in it must
            # not stop the others.
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, client

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away or spoke no TLS is its own trouble; anything else is a fault
        # of ours and is shown.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """A line in the training log for every scrape would bury it."""


def _listen(settings: ExporterSettings, app: App) -> _Server:
    context = _tls(settings)
    first, last = settings.ports
    for port in range(first, last + 1):
        try:
            server = _Server(settings.address, port, context)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise OSError(
                error.errno,
                f"metrics cannot be served on {settings.address}: {error.strerror}; "
                "set observe.exporter.address",
            ) from error
        server.set_app(app)
        return server
    raise OSError(
        errno.EADDRINUSE,
        f"no free port for metrics in {first}-{last}: widen observe.exporter.ports",
    )


def _tls(settings: ExporterSettings) -> ssl.SSLContext | None:
    if settings.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.certificate, settings.key)
    if settings.client_ca is not None:
        context.load_verify_locations(settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _with_password(app: App, password_file: Path) -> App:
    """The same application, for those who know the user and password in the file."""
    text = password_file.read_text().strip()
    if ":" not in text or "\n" in text or len(text) > 1024:
        raise ValueError(f"{password_file} must hold one line, user:password")
    expected = f"Basic {base64.b64encode(text.encode()).decode()}".encode()

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if hmac.compare_digest(
            environ.get("HTTP_AUTHORIZATION", "").encode("latin-1"), expected
        ):
            return app(environ, start_response)
        start_response(
            "401 Unauthorized",
            [("WWW-Authenticate", 'Basic realm="ausl"'), ("Content-Type", "text/plain")],
        )
        return [b"user and password are needed\n"]

    return guarded


def _advertised(settings: ExporterSettings, identity: RankIdentity) -> str:
    host = settings.advertise or (
        identity.node if settings.address in ("0.0.0.0", "::") else settings.address
    )
    return f"[{host}]" if ":" in host else host

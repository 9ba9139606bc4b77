"""A plain HTTP server on loopback that serves a folder, ranges included, as any web server
does.

with PlainHTTP(folder) as server:
    Index.load(f"{server.url}/corpus")
"""

import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.loopback import LoopbackServer

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class PlainHTTP(LoopbackServer):
    """Serves the files under `folder`; the first `failures` requests for each are answered by
    503.
    """

    def __init__(self, folder: Path, failures: int = 0) -> None:
        self.failed: Counter[str] = Counter()
        outer = self
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                path = folder / self.path.lstrip("/")
                with lock:
                    fails = path.is_file() and outer.failed[self.path] < failures
                    outer.failed[self.path] += fails
                if fails or not path.is_file():
                    self.send_response(503 if fails else 404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                data = path.read_bytes()
                size = len(data)
                wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
                if wanted:
                    first, last = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
                    data = data[first : last + 1]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                else:
                    self.send_response(200)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if with_body:
                    self.wfile.write(data)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

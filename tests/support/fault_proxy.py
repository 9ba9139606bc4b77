"""A proxy on loopback that stands between a client and a real S3 server and misbehaves on a
seeded schedule.

    with FaultProxy(server_port, kinds=("cut", "flip"), share=0.3, seed=1) as proxy:
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint

Only ranged reads of objects whose name ends so (shards, *.tar) are disturbed. The n-th read
meets the n-th draw of the schedule, whatever connection it comes on.
"""

import contextlib
import random
import socket
import socketserver
import struct
import threading
from collections import Counter
from types import TracebackType
from typing import BinaryIO

from tests.support.loopback import LoopbackServer

ERRORS = {
    "slow_down": (b"503 Slow Down", "SlowDown", "Please reduce your request rate."),
    "internal_error": (
        b"500 Internal Server Error",
        "InternalError",
        "We encountered an internal error. Please try again.",
    ),
    "expired": (b"400 Bad Request", "ExpiredToken", "The provided token has expired."),
    "denied": (b"403 Forbidden", "AccessDenied", "Access Denied."),
}
# cut, reset, short, stall, flip and trickle_body happen in the middle of a body.
PIECE = 1 << 14
TRICKLE_SECONDS = 0.05  # between two bytes
HUGE_BYTES = 1 << 30


class FaultProxy(LoopbackServer):
    """Forwards to `127.0.0.1:port`; a `share` of the reads meets one of the `kinds`, at most
    `most` of them.
    """

    def __init__(
        self,
        port: int,
        kinds: tuple[str, ...] = (),
        share: float = 0.0,
        seed: int = 0,
        most: int = 1 << 30,
        names: bytes = b".tar",
    ) -> None:
        self.port, self.names = port, names
        self.kinds, self.share, self.most = kinds, share, most
        self.faults: Counter[str] = Counter()
        self.reads = 0
        self.closing = threading.Event()
        self._schedule = random.Random(seed)
        self._lock = threading.Lock()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                # either side hung up, which is what this proxy is for
                with contextlib.suppress(OSError, ValueError):
                    _Connection(proxy, self.request).run()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        super().__exit__(kind, error, trace)

    def next_fault(self) -> str | None:
        with self._lock:
            self.reads += 1
            kind = self._schedule.choice(self.kinds) if self.kinds else ""
            if (
                not kind
                or self._schedule.random() >= self.share
                or self.faults.total() >= self.most
            ):
                return None
            self.faults[kind] += 1
            return kind

    def cut_point(self, length: int) -> int:
        with self._lock:
            return self._schedule.randrange(length)


class _Connection:
    """One client's connection; requests follow each other on it."""

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        self.proxy, self.client = proxy, client
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests: BinaryIO = client.makefile("rb")

    def run(self) -> None:
        while (head := _head(self.requests)) and self.answer(head):
            pass

    def answer(self, head: list[bytes]) -> bool:
        """Answer one request; False when the connection is of no more use."""
        fields = _fields(head)
        if b"expect" in fields:  # the client waits for this before it sends its body
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = [line for line in head if not line.lower().startswith(b"expect")]
        body = self.requests.read(int(fields.get(b"content-length", 0)))
        fault = (
            self.proxy.next_fault()
            if head[0].startswith(b"GET") and self.proxy.names in head[0] and b"range" in fields
            else None
        )
        if fault == "trickle_head":
            return self.trickle(b"HTTP/1.1 206 Partial Content\r\nX-Slow: " + b"x" * 10_000)
        if fault == "trickle_error":
            return self.trickle(
                b"x" * 10_000, b"HTTP/1.1 503 Slow Down\r\nContent-Length: 10000"
            )
        if fault == "huge_error":
            return self.send_huge_error()
        if fault in ERRORS:
            status, code, message = ERRORS[fault]
            text = (
                '<?xml version="1.0" '
                f'encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
            ).encode()
            self.client.sendall(
                b"HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(text), text)
            )
            return True
        with socket.create_connection(("127.0.0.1", self.proxy.port)) as server:
            server.sendall(b"".join(head).replace(b"Connection: keep-alive\r\n", b"") + body)
            answers = server.makefile("rb")
            return self.forward(head[0], answers, fault)

    def trickle(self, data: bytes, head: bytes = b"") -> bool:
        """Send a head at once and the rest byte by byte, for as long as the client stays."""
        if head:
            self.client.sendall(head + b"\r\n\r\n")
        for byte in data:
            if self.proxy.closing.wait(TRICKLE_SECONDS):
                break
            self.client.sendall(bytes([byte]))
        return False

    def send_huge_error(self) -> bool:
        self.client.sendall(
            b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
            % HUGE_BYTES
        )
        for _ in range(HUGE_BYTES // (1 << 20)):
            self.client.sendall(bytes(1 << 20))
        return True

    def forward(self, request: bytes, answers: BinaryIO, fault: str | None) -> bool:
        head = _head(answers)
        if head is None:
            return False
        fields = _fields(head)
        length = int(fields.get(b"content-length", 0))
        if request.startswith(b"HEAD") or head[0].split()[1] in (b"204", b"304"):
            self.client.sendall(b"".join(head))
            return True
        if fields.get(b"transfer-encoding") == b"chunked":
            self.client.sendall(b"".join(head))
            return self.forward_chunks(answers)
        at = self.proxy.cut_point(length) if fault and length else length
        # a lie that no client can see: the server says that the object ends here
        if fault == "short":
            head = [
                b"Content-Length: %d\r\n" % at
                if line.lower().startswith(b"content-length")
                else line
                for line in head
            ]
        self.client.sendall(b"".join(head))
        return self.forward_body(answers, length, at, fault)

    def forward_body(self, answers: BinaryIO, length: int, at: int, fault: str | None) -> bool:
        sent = 0
        while sent < length:
            wanted = min(PIECE, (at if sent < at else length) - sent)
            piece = answers.read(wanted)
            if not piece:
                return False
            if fault and sent == at:
                if fault in ("short", "cut"):
                    return False
                if fault == "reset":
                    self.client.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    self.client.close()
                    return False
                if fault == "stall":
                    self.proxy.closing.wait(60)
                    return False
                if fault == "trickle_body":
                    return self.trickle(piece)
                piece = bytes([piece[0] ^ 0x10]) + piece[1:]  # flip
            self.client.sendall(piece)
            sent += len(piece)
        return True

    def forward_chunks(self, answers: BinaryIO) -> bool:
        while True:
            size = answers.readline()
            piece = answers.read(int(size, 16) + 2)
            self.client.sendall(size + piece)
            if int(size, 16) == 0:
                return True


def _head(file: BinaryIO) -> list[bytes] | None:
    lines: list[bytes] = []
    while line := file.readline():
        lines.append(line)
        if line == b"\r\n":
            return lines
    return None


def _fields(head: list[bytes]) -> dict[bytes, bytes]:
    pairs = (line.split(b":", 1) for line in head[1:] if b":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}

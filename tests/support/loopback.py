"""What servers of the tests have in common: they serve from a thread while a block lasts."""

import socketserver
import threading
from types import TracebackType
from typing import Self


class LoopbackServer:
    """Serves `_server` on 127.0.0.1 inside a `with` block."""

    _server: socketserver.BaseServer

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

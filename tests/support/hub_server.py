"""A hub on loopback, as much of its HTTP interface as uploading a folder and fetching it again
takes.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_tests"


@dataclass
class Hub:
    """What the server holds; files by repository and path, of the newest commit."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)  # messages

    @property
    def revision(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run the server while the block lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            exists = name in self.hub.files
            self.hub.files.setdefault(name, {})
            self.hub.private.setdefault(
                name, wanted.get("private") or wanted.get("visibility") == "private"
            )
            return self._json({"url": f"{self.hub.address}/{name}"}, 409 if exists else 200)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        repository, action = self._split(path)
        if action == "preupload/main":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if action == "commit/main":
            self._commit(
                self.hub.files[repository], [json.loads(line) for line in body.splitlines()]
            )
            return self._json(
                {
                    "commitUrl": f"{self.hub.address}/{repository}/commit/{self.hub.revision}",
                    "commitOid": self.hub.revision,
                }
            )
        return self._json({"error": f"no {path}"}, 404)

    def _commit(self, files: dict[str, bytes], lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.hub.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not path.startswith("/api/"):
            repository, _, rest = path[1:].partition("/resolve/")
            return self._file(self.hub.files.get(repository, {}).get(rest.partition("/")[2]))
        repository, action = self._split(path)
        if repository not in self.hub.files:
            return self._json(
                {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"}
            )
        if action.startswith("tree/"):
            return self._json(
                [_entry(name, data) for name, data in self.hub.files[repository].items()]
            )
        siblings = [{"rfilename": name} for name in self.hub.files[repository]]
        return self._json(
            {
                "id": repository,
                "sha": self.hub.revision,
                "siblings": siblings,
                "tags": [],
                "private": True,
            }
        )

    do_HEAD = do_GET

    def _split(self, path: str) -> tuple[str, str]:
        parts = path.removeprefix("/api/models/").split("/")
        return "/".join(parts[:2]), "/".join(parts[2:])

    def _file(self, data: bytes | None) -> None:
        if data is None:
            return self._json(
                {"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"}
            )
        return self._send(
            data,
            200,
            {
                "ETag": f'"{_blob(data)}"',
                "X-Repo-Commit": self.hub.revision,
                "Accept-Ranges": "bytes",
            },
        )

    def _json(
        self, value: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self._send(
            json.dumps(value).encode(),
            status,
            {"Content-Type": "application/json", **(headers or {})},
        )

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _entry(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}


def _blob(data: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

"""Ranged reads of S3 by botocore's blocking client, at half the processor time of s3fs, which
runs them through an event loop.

    read_range ──▶ botocore signs and sends ──▶ socket ──Pace──▶ head, body, or text of an error

Botocore reads an error's text whole, and has no limit on the time of an answer; so the sockets'
bytes pass a Pace. Imported at the first read from S3: that takes half a second, which reads
from paths need not pay.
"""

import functools
import http.client
import io
import os
import socket
import threading

import botocore.awsrequest
import botocore.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

from ausl_dist.shards import storage
from ausl_dist.shards.pace import Pace

PIECE_BYTES = 1 << 20  # taken from the connection at a time, at most
MAX_OVERHEAD_BYTES = 1 << 20  # of an answer beside its body: head, or the text of an error

_making = threading.Lock()
_reading = threading.local()  # .pace of the read that this thread is in


def read_range(
    filesystem: S3FileSystem, path: str, start: int, end: int, timeout_seconds: float
) -> bytes:
    """Bytes [start, end) of a path of `filesystem`, as far as they come.

    Ends at the time-out, later only by what connecting may take. Raises OSError where the store
    refuses, sends too much or too slowly, and errors of botocore and urllib3.
    """
    bucket, key, version = filesystem.split_path(path)
    wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{end - 1}"} | (
        {"VersionId": version} if version else {}
    )
    with _making:  # or threads that come first together each make a client
        client = _client(filesystem.endpoint_url, os.getpid())
    pace = _reading.pace = Pace(
        timeout_seconds,
        end - start + MAX_OVERHEAD_BYTES,
        silence_seconds=storage.READ_TIMEOUT_SECONDS,
    )
    try:
        return _read(client, wanted, end - start)
    except ClientError as error:
        raise translate_boto_error(error) from error
    except Exception:
        if pace.problem is not None:
            raise pace.problem from None
        raise
    finally:
        _reading.pace = None


def _read(client: BaseClient, wanted: dict[str, str], size: int) -> bytes:
    pieces, came = [], 0
    with client.get_object(**wanted)["Body"] as body:
        while piece := body.read1(PIECE_BYTES):
            pieces.append(piece)
            came += len(piece)
            if came > size:
                raise OSError(f"more than the {size} bytes that were asked for came")
    return b"".join(pieces)


@functools.cache
def _client(endpoint: str | None, process: int) -> BaseClient:
    client = botocore.session.get_session().create_client(
        "s3", endpoint_url=endpoint, config=Config(**storage.s3_client_options())
    )
    # There is no public way to give botocore another class of connection. Its own session is
    # kept, because proxies, certificates and their settings are its work.
    session = client._endpoint.http_session
    session._pool_classes_by_scheme.update(http=_Pool, https=_TLSPool)
    return client


class _Bytes(io.RawIOBase):
    """The bytes of a socket, each read of them as long as the pace allows."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, pace: Pace) -> None:
        self._raw, self._connection, self._pace = raw, connection, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview", /) -> int | None:  # type: ignore[override]
        self._connection.settimeout(self._pace.seconds())
        count: int | None = self._raw.readinto(buffer)
        self._pace.came(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: object, **named: object) -> None:
        super().__init__(sock, *arguments, **named)  # type: ignore[arg-type]
        pace: Pace | None = getattr(_reading, "pace", None)
        if pace is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_Bytes(raw, sock, pace))


class _Connection(botocore.awsrequest.AWSHTTPConnection):
    response_class = _Response


class _TLSConnection(botocore.awsrequest.AWSHTTPSConnection):
    response_class = _Response


class _Pool(botocore.awsrequest.AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(botocore.awsrequest.AWSHTTPSConnectionPool):
    ConnectionCls = _TLSConnection

"""Ranged reads of S3 by botocore's blocking client, at half the CPU time of s3fs, which runs them
through an event loop.

Imported at the first read from S3, because it takes half a second and reads from paths need none of
it.
"""

import functools
import os
import threading
import time

import botocore.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

from ausl_dist.shards.storage import s3_client_options

PIECE_BYTES = 1 << 20  # taken from the connection at a time, at most

_making = threading.Lock()


def read_range(
    filesystem: S3FileSystem, path: str, start: int, end: int, timeout_seconds: float
) -> bytes:
    """Bytes [start, end) of a path of `filesystem`, as far as they come.

    Ends at the time-out, later only by what connecting and the first byte may take. Raises OSError
    where the store refuses, TimeoutError, and errors of botocore and urllib3.
    """
    deadline = time.monotonic() + timeout_seconds
    bucket, key, version = filesystem.split_path(path)
    wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{end - 1}"} | (
        {"VersionId": version} if version else {}
    )
    with _making:  # or threads that come first together each make a client
        client = _client(filesystem.endpoint_url, os.getpid())
    try:
        response = client.get_object(**wanted)
    except ClientError as error:
        raise translate_boto_error(error) from error
    pieces, came = [], 0
    with response["Body"] as body:
        # what has arrived: a plain read would wait for a body that trickles
        while piece := body.read1(PIECE_BYTES):
            pieces.append(piece)
            came += len(piece)
            if came > end - start:
                raise OSError(f"more than the {end - start} bytes that were asked for came")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not read within {timeout_seconds:.0f} s")
    return b"".join(pieces)


@functools.cache
def _client(endpoint: str | None, process: int) -> BaseClient:
    return botocore.session.get_session().create_client(
        "s3", endpoint_url=endpoint, config=Config(**s3_client_options())
    )

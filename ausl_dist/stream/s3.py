"""Ranged reads of S3 by botocore's blocking client, at half the CPU time of s3fs, which runs them through an event loop.

Imported at the first read from S3, because it takes half a second and reads from paths need none of it.
"""

import contextlib
import functools
import os
import time

import botocore.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from ausl_dist.stream.storage import S3_CLIENT, s3_endpoint

PIECE_BYTES = 1 << 20  # taken from the connection at a time, at most


def read_range(path: str, start: int, end: int, timeout_seconds: float) -> bytes:
    """Bytes [start, end) of `path`, bucket/key, as far as they come.

    Raises OSError where the store refuses, and TimeoutError; other errors are botocore's and urllib3's own.
    """
    deadline = time.monotonic() + timeout_seconds
    bucket, _, key = path.partition("/")
    try:
        response = _client(s3_endpoint(), os.getpid()).get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}")
    except ClientError as error:
        raise translate_boto_error(error) from error
    pieces = []
    with contextlib.closing(response["Body"]) as body:
        while piece := body._raw_stream.read1(PIECE_BYTES):  # what has arrived: body.read() would wait for a body that trickles
            pieces.append(piece)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not read within {timeout_seconds:.0f} s")
    return b"".join(pieces)


@functools.cache
def _client(endpoint: str | None, process: int) -> BaseClient:
    return botocore.session.get_session().create_client("s3", endpoint_url=endpoint, config=Config(**S3_CLIENT))

"""How fast curl reads what the loader reads, from the same object store: the limit of reading."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ausl_dist.shards import storage
from ausl_dist.shards.index import Index

MIB = 1 << 20


def signed_urls(corpus: Path, url: str) -> list[str]:
    """Addresses of the shards at `url`, in the order of the index, that curl can read without
    knowing of S3.
    """
    filesystem, root = storage.connect(url)
    return [
        filesystem.sign(f"{root}/{shard.name}", expiration=86400)
        for shard in Index.load(str(corpus)).shards
    ]


def curl_rate(corpus: Path, urls: Sequence[str], repeats: int, readers: int) -> float:
    """MiB/s of curl reading the ranges that the loader reads, so many at a time, over connections
    that it opens itself.
    """
    index = Index.load(str(corpus))
    address = {shard.name: url for shard, url in zip(index.shards, urls, strict=True)}
    arguments: list[str] = []
    for chunk in [index.chunk(number) for number in range(len(index.chunks))] * repeats:
        span = f"{chunk.offset}-{chunk.offset + chunk.bytes - 1}"
        arguments += [
            "--next",
            "-sf",
            "-r",
            span,
            "-o",
            "/dev/null",
            "-w",
            "%{size_download}\\n",
            address[chunk.shard],
        ]
    start = time.monotonic()
    program = ["curl", "--parallel", "--parallel-max", str(readers), *arguments[1:]]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return sum(map(int, done.stdout.split())) / MIB / (time.monotonic() - start)

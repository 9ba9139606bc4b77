"""Ways to read chunks from S3, beside each other: what `data.reader` chooses from, and obstore
where it is installed.

python -m tools.stream_bench.ways [--work DIR] [--rounds N]

Reads the corpus that tools.bench_stream has made and published, eight chunks at a time,
checksums included, in turns; prints medians of processor seconds a GiB (of this process) and of
MiB/s.
"""

import argparse
import importlib.util
import itertools
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

from ausl_dist import command
from ausl_dist.shards.index import Chunk, Index
from ausl_dist.shards.ranges import Ranges, Way, open_ranges
from launch.object_store import ObjectStore
from tools.bench_stream import BUCKET, MIB, READERS, ROOT

URL = f"s3://{BUCKET}/corpus"
GIB = 1 << 30
MIN_BYTES = 512 << 20  # read in each turn


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "runs" / "bench-stream",
        help="of tools.bench_stream",
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with ObjectStore(arguments.work.resolve() / "object-store") as store:
        os.environ.update(store.environment)
        index = Index.load(URL)
        ways = {name: ranges() for name, ranges in openers().items()}
        results = defaultdict(list)
        for _ in range(arguments.rounds):
            for name, ranges in ways.items():
                results[name].append(read(index, ranges))
    print("| way | CPU s a GiB | MiB/s |\n|---|---|---|")
    for name, turns in results.items():
        cpu, speed = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"| {name} | {cpu:.2f} | {speed:.0f} |")
    return 0


def openers() -> dict[str, Callable[[], Ranges]]:
    """Each way, not opened yet."""

    def ours(way: Way) -> Callable[[], Ranges]:
        return lambda: open_ranges(URL, way)

    found = {"botocore": ours("botocore"), "fsspec (s3fs)": ours("fsspec")}
    if importlib.util.find_spec("obstore"):
        found["obstore"] = obstore_ranges
    return found


def obstore_ranges() -> Ranges:
    from obstore.store import S3Store

    store = S3Store.from_url(
        URL,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_DEFAULT_REGION"],
        client_options={"allow_http": True},
    )

    def read(name: str, start: int, end: int, timeout_seconds: float) -> bytes:
        return bytes(store.get_range(name, start=start, end=end))

    return read


def read(index: Index, ranges: Ranges) -> tuple[float, float]:
    """Processor seconds a GiB and MiB a second."""

    def verified(chunk: Chunk) -> int:
        data = ranges(chunk.shard, chunk.offset, chunk.offset + chunk.bytes, 60.0)
        if xxhash.xxh3_64_intdigest(data) != chunk.xxh3:
            raise ValueError(f"{chunk}: wrong bytes")
        return len(data)

    chunks = [index.chunk(number) for number in range(len(index.chunks))]
    turns = -(-MIN_BYTES // sum(chunk.bytes for chunk in chunks))
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(verified, chunks[:READERS]))  # opens the connections
        cpu, wall = time.process_time(), time.monotonic()
        total = sum(pool.map(verified, itertools.chain.from_iterable([chunks] * turns)))
        return (
            (time.process_time() - cpu) * GIB / total,
            total / MIB / (time.monotonic() - wall),
        )


if __name__ == "__main__":
    command.run(main)

"""Measure the data plane beside the loaders people use today, and the limits of what a loader can do.

python tools/bench_stream.py [--out table.md]

Same clips, same output (all 32 frames decoded, a random crop resized to 112 pixels, normalised float32 batches of eight clips), from local
disk and from an S3 server on loopback. Contenders run in turn, round after round, each time in a process of its own; the table has
medians. The peers get an environment of their own (--peers makes it; torchcodec needs FFmpeg's libraries: apt-get install ffmpeg).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ausl_dist import command
from ausl_dist.files import write_atomically, write_json
from ausl_dist.stream import storage
from ausl_dist.stream.index import Index
from launch.object_store import ObjectStore
from tools.stream_bench.measure import Job, Result
from tools.stream_bench.prepare import render, repeat, upload

ROOT = Path(__file__).resolve().parents[1]
BUCKET = "bench"
PEERS = (
    *("torch==2.13.0", "torchvision==0.28.0", "torchcodec==0.13.0", "av==18.1.0", "webdataset==1.0.2"),
    *("megatron-energon==7.4.1", "mosaicml-streaming==0.13.0", "litdata==0.2.76", "s3fs>=2026.1"),
)
PEER_FOLDERS = {"webdataset": "corpus", "energon": "corpus", "streaming": "mds", "litdata": "litdata", "bare torchcodec": "corpus"}
CONTENDER_SECONDS = 900
LIMIT_ROUNDS = 5
CURL_REPEATS = 4
MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "bench-stream", help="where clips and environment are kept")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="a corpus of clips of 32 frames at 256 pixels instead of rendered ones")
    parser.add_argument("--copies", type=int, default=32, help="of every clip, so that the corpus is larger than any cache")
    parser.add_argument("--clips", type=int, default=512, help="clips measured in each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders whose names begin so")
    parser.add_argument("--peers", action="store_true", help="make the peers' environment if need be, and measure them too")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    corpus = repeat(arguments.corpus or render(work / "world"), work / "corpus", arguments.copies)
    python = _peer_environment(work) if arguments.peers else None
    with ObjectStore(work / "object-store") as store:
        os.environ.update(store.environment)
        store.make_bucket(BUCKET)
        bench = Bench(work, python, arguments.clips)
        bench.publish(corpus)
        names = [name for name in bench.contenders() if not arguments.only or name.startswith(tuple(arguments.only))]
        for number in range(arguments.rounds):
            for name in names:
                for place in ("disk", "S3"):
                    bench.run(name, place)
            print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr, flush=True)
        table = bench.table() + bench.limits()
    print(table)
    if arguments.out:
        write_atomically(arguments.out, table)
    return 0


class Bench:
    """The contenders, and what was measured of each."""

    def __init__(self, work: Path, peer_python: Path | None, clips: int) -> None:
        self.work, self.peer_python, self.clips = work, peer_python, clips
        self.results: dict[tuple[str, str], list[Result]] = defaultdict(list)
        self.signed: list[str] = []

    def contenders(self) -> Iterator[str]:
        yield from ("ours", "ours, DALI decodes", "bare packets", "bare PyAV")
        if self.peer_python:
            yield "bare torchcodec"
            for loader in ("webdataset", "energon", "streaming", "litdata"):
                yield from (f"{loader} + torchcodec", f"{loader} + PyAV")

    def publish(self, corpus: Path) -> None:
        """Make the peers' formats, and put everything on the object store."""
        if self.peer_python and not (self.work / "litdata" / "index.json").exists():
            self._process("convert", str(corpus))
            _prepare_energon(self.peer_python, corpus)
        for name in ("corpus", "mds", "litdata"):
            if (self.work / name).is_dir():
                upload(self.work / name, f"s3://{BUCKET}/{name}")
        self.signed = _signed_urls(corpus)

    def run(self, name: str, place: str, **changes: object) -> Result | None:
        """Measure a contender once; None where it cannot read from that place."""
        if name.startswith("bare") and place == "S3":
            return None
        if name.startswith("energon") and place == "S3":
            return None  # its dataset preparation reads local files; see tools/README.md
        folder = next((folder for prefix, folder in PEER_FOLDERS.items() if name.startswith(prefix)), "corpus")
        data = str(self.work / folder) if place == "disk" else f"s3://{BUCKET}/{folder}"
        result = self._process(name, data, **changes)
        if not changes:
            self.results[name, place].append(result)
        return result

    def _process(self, name: str, data: str, **changes: object) -> Result:
        job = Job(contender=name, data=data, clips=self.clips, **changes)  # type: ignore[arg-type]
        path = self.work / "job.json"
        write_json(path, asdict(job))
        ours = name.startswith(("ours", "reading", "bare P", "bare p"))
        program = [sys.executable, "-m", "tools.stream_bench.ours"] if ours else [str(self.peer_python), "tools/stream_bench/peers.py"]
        environment = {**os.environ, "BENCH_SIGNED_URLS": json.dumps(self.signed), "OMP_NUM_THREADS": "1"}
        environment["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]  # what mosaicml-streaming calls it
        done = subprocess.run(
            [*program, str(path)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=CONTENDER_SECONDS, check=False
        )
        if done.returncode:
            raise ValueError(f"contender {name!r} failed on {data}:\n{done.stderr[-3000:]}")
        return Result(**json.loads(done.stdout.splitlines()[-1]))

    def table(self) -> str:
        """A Markdown table of medians, the cheapest contender first."""
        lines = ["| contender | from | CPU ms a clip | clips/s | first batch, s |", "|---|---|---|---|---|"]
        rows = sorted(self.results.items(), key=lambda item: _median([_cpu_ms(result) for result in item[1]]))
        for (name, place), results in rows:
            cpu = _median([_cpu_ms(result) for result in results])
            rate = _median([result.clips / result.wall_seconds for result in results])
            first = _median([result.first_batch_seconds for result in results])
            lines.append(f"| {name} | {place} | {cpu:.1f} | {rate:.0f} | {first:.2f} |")
        return "\n".join(lines) + "\n"

    def limits(self) -> str:
        """Reading alone beside curl, the resume, and the stall of a consumer that waits."""
        corpus = f"s3://{BUCKET}/corpus"
        ours, theirs = [], []
        for _ in range(LIMIT_ROUNDS):
            result = self._process("reading", corpus, clips=64)
            ours.append(result.clips / result.wall_seconds / MIB)
            theirs.append(_curl_rate(self.signed))
        first = {}
        for step in (0, 1_000_000):
            results = [self._process("ours", corpus, clips=8, warm_up=0, start_step=step) for _ in range(LIMIT_ROUNDS)]
            first[step] = _median([result.first_batch_seconds for result in results])
        waiting = self._process("ours", corpus, batch=2, clips=400, wait_ms=50.0)
        stall = 100 * waiting.stalled_seconds / waiting.wall_seconds
        return (
            f"\n* Reading alone, eight at a time: {_median(ours):.0f} MiB/s, checksums included; curl: {_median(theirs):.0f} MiB/s.\n"
            f"* First batch after a start at step 0: {first[0]:.2f} s; at step 1,000,000: {first[1_000_000]:.2f} s.\n"
            f"* A consumer that waits 50 ms for each batch of two clips is stalled {stall:.2f} % of the time.\n"
        )


def _cpu_ms(result: Result) -> float:
    return 1000 * result.cpu_seconds / result.clips


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _peer_environment(work: Path) -> Path:
    """The Python of the peers' environment, made on the first call."""
    folder = work / "peers"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making the environment of the peers in {folder}: some minutes", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--upgrade", "pip"], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEERS], check=True)
        (folder / "complete").touch()
    return python


def _prepare_energon(python: Path, corpus: Path) -> None:
    """Energon wants its own index beside the shards; its command answers no questions when given all of this."""
    program = [str(python.parent / "energon")]
    options = ["--non-interactive", "--sample-type", "CrudeWebdataset", "--split-parts", "train:.*", "--num-workers", "1"]
    subprocess.run([*program, "prepare", *options, str(corpus)], check=True)
    subprocess.run([*program, "lint", str(corpus)], check=True)


def _signed_urls(corpus: Path) -> list[str]:
    """Addresses of the shards that curl can read without knowing of S3."""
    filesystem, root = storage.connect(f"s3://{BUCKET}/corpus")
    return [filesystem.sign(f"{root}/{shard.name}", expiration=86400) for shard in Index.load(str(corpus)).shards]


def _curl_rate(urls: Sequence[str]) -> float:
    """MiB/s of curl reading the shards over and over, eight at a time."""
    arguments = [argument for url in list(urls) * CURL_REPEATS for argument in (url, "-o", "/dev/null")]
    start = time.monotonic()
    program = ["curl", "-sf", "--parallel", "--parallel-max", "8", "-w", "%{size_download}\\n"]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=True)
    return sum(map(int, done.stdout.split())) / MIB / (time.monotonic() - start)


if __name__ == "__main__":
    command.run(main)

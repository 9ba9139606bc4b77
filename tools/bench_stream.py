"""Measure the data plane beside the loaders people use today, and beside the limits of what a
loader can do.

    python -m tools.bench_stream --peers [--out table.md]

Same clips, same output (all 32 frames decoded, a random crop resized to 112 pixels, normalised
float32 batches of eight clips), from local disk and from an S3 server on loopback. Contenders
run in turn, round after round, each time in a process of its own; the table has medians. What
counts is processor time, of the whole tree of processes: on a busy machine the clock says
little. The peers get an environment of their own (--peers makes it; torchcodec needs FFmpeg's
libraries: apt-get install ffmpeg).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from ausl_dist import command
from ausl_dist.files import write_atomically, write_json
from ausl_dist.shards import storage
from ausl_dist.shards.index import Index
from launch.object_store import ObjectStore
from tools.stream_bench import scale
from tools.stream_bench.curl import curl_rate, signed_urls
from tools.stream_bench.measure import ReadingJob, Result
from tools.stream_bench.prepare import render, repeat, upload

ROOT = Path(__file__).resolve().parents[1]
BUCKET = "bench"
PEERS = (
    *(
        "torch==2.13.0",
        "torchvision==0.28.0",
        "torchcodec==0.13.0",
        "av==18.1.0",
        "webdataset==1.0.2",
    ),
    *(
        "megatron-energon==7.4.1",
        "mosaicml-streaming==0.13.0",
        "litdata==0.2.76",
        "s3fs>=2026.1",
    ),
)
OURS, BARE = ("ours", "ours, DALI decodes"), ("bare packets", "bare PyAV")
BARE_PEER = "bare torchcodec"
LOADERS = (
    "webdataset + PyAV",
    "webdataset + torchcodec",
    "energon + torchcodec",
    "streaming + torchcodec",
    "litdata + torchcodec",
)
PEER_FOLDERS = {"streaming": "mds", "litdata": "litdata"}  # the others read our shards
# At which late step a loader is resumed: energon's state has to be reached, so it is an early
# one, and webdataset has no resume.
RESUMES = {
    "ours": 1_000_000,
    "streaming + torchcodec": 1_000_000,
    "litdata + torchcodec": 1_000_000,
    "energon + torchcodec": 8,
}
CONTENDER_SECONDS = 900
CURL_REPEATS, READERS = 2, 8
MIB = 1 << 20


def main() -> int:
    arguments = _parser().parse_args()
    work = arguments.work.resolve()
    corpus = repeat(
        arguments.corpus or render(work / "world"), work / "corpus", arguments.copies
    )
    python = _peer_environment(work) if arguments.peers else None
    with ObjectStore(work / "object-store") as store:
        os.environ.update(store.environment)
        store.make_bucket(BUCKET)
        bench = StreamBench(work, python, arguments.clips)
        bench.publish(corpus)
        names = [
            name
            for name in bench.contenders()
            if not arguments.only or name.startswith(tuple(arguments.only))
        ]
        for number in range(arguments.rounds):
            bench.round(names)
            table = bench.table() + bench.limits()
            print(
                f"round {number + 1} of {arguments.rounds}\n\n{table}",
                file=sys.stderr,
                flush=True,
            )
    table += f"* {scale.measure(work / 'billion')}.\n"
    print(table)
    if arguments.out:
        write_atomically(arguments.out, table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "runs" / "bench-stream",
        help="where clips and environment are kept",
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="a corpus of clips of 32 frames at 256 pixels instead of rendered ones",
    )
    parser.add_argument(
        "--copies",
        type=int,
        default=64,
        help="of every clip, so that the corpus is larger than what a loader holds",
    )
    parser.add_argument("--clips", type=int, default=256, help="clips measured in each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="contenders whose names begin so"
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="make the peers' environment if need be, and measure them too",
    )
    parser.add_argument("--out", type=Path, help="write the table here as well")
    return parser


class StreamBench:
    """The contenders, and what was measured of each."""

    def __init__(self, work: Path, peer_python: Path | None, clips: int) -> None:
        self.work, self.peer_python, self.clips = work, peer_python, clips
        self.results: dict[tuple[str, str], list[Result]] = defaultdict(list)
        self.resumed: dict[str, list[Result]] = defaultdict(list)
        self.waited: list[Result] = []
        self.read_rates: list[tuple[float, float]] = []  # ours and curl's, MiB/s
        self.signed: list[str] = []  # addresses of the shards that curl can read
        self.chunks = 0

    def contenders(self) -> tuple[str, ...]:
        return (*OURS, *BARE, BARE_PEER, *LOADERS) if self.peer_python else (*OURS, *BARE)

    def publish(self, corpus: Path) -> None:
        """Make the peers' formats, and put everything on the object store."""
        write_json(self.work / "msc.json", _storage_of_energon())
        if self.peer_python:
            self._process("convert", str(corpus))
            if not (corpus / ".nv-meta").exists():
                _prepare_energon(self.peer_python, corpus)
        for name in ("corpus", "mds", "litdata"):
            if (self.work / name).is_dir() and not _is_published(
                self.work / name, f"s3://{BUCKET}/{name}"
            ):
                upload(self.work / name, f"s3://{BUCKET}/{name}")
        self.signed = signed_urls(corpus, f"s3://{BUCKET}/corpus")
        self.chunks = len(Index.load(str(corpus)).chunks)

    def round(self, names: Sequence[str]) -> None:
        """Measure everything once, in turn."""
        for name in names:
            for place in ("disk", "S3") if name == "ours" or name in LOADERS else ("disk",):
                self.results[name, place].append(
                    self._process(name, self._data(name, place), clips=self.clips)
                )
        for name, late in RESUMES.items():
            if name in names:
                state = {"start_step": late, "state": str(self.work / "energon-state.pt")}
                if name.startswith("energon") and not Path(str(state["state"])).exists():
                    self._process("save energon state", self._data(name, "S3"), **state)
                self.resumed[name].append(
                    self._process(name, self._data(name, "S3"), clips=8, warm_up=0, **state)
                )
        self.waited.append(
            self._process(
                "ours",
                self._data("ours", "S3"),
                batch=1,
                frames=16,
                clips=100,
                warm_up=16,
                wait_ms=50.0,
            )
        )
        reading = self._process(
            "reading",
            self._data("ours", "S3"),
            clips=self.chunks * CURL_REPEATS,
            workers=READERS,
        )
        self.read_rates.append(
            (
                reading.clips / reading.wall_seconds / MIB,
                curl_rate(self.work / "corpus", self.signed, CURL_REPEATS, READERS),
            )
        )

    def _data(self, name: str, place: str) -> str:
        folder = PEER_FOLDERS.get(name.split()[0], "corpus")
        return str(self.work / folder) if place == "disk" else f"s3://{BUCKET}/{folder}"

    def _process(self, name: str, data: str, **changes: object) -> Result:
        job = ReadingJob(contender=name, data=data, **changes)  # type: ignore[arg-type]
        path = self.work / "job.json"
        write_json(path, asdict(job))
        ours = name in (*OURS, *BARE, "reading")
        program = (
            [sys.executable, "-m", "tools.stream_bench.ours"]
            if ours
            else [str(self.peer_python), "tools/stream_bench/peers.py"]
        )
        environment = {
            **os.environ,
            "BENCH_SIGNED_URLS": json.dumps(self.signed),
            "OMP_NUM_THREADS": "1",
        }
        # what mosaicml-streaming calls it
        environment["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]
        environment["MSC_CONFIG"] = str(self.work / "msc.json")  # where energon looks for it
        # where they keep what they fetched: nothing is there at the next start
        with tempfile.TemporaryDirectory(dir=self.work) as scratch:
            environment["TMPDIR"] = scratch
            done = subprocess.run(
                [*program, str(path)],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=CONTENDER_SECONDS,
                check=False,
            )
        if done.returncode:
            raise ValueError(f"contender {name!r} failed on {data}:\n{done.stderr[-3000:]}")
        return Result(
            **json.loads(
                next(
                    line for line in reversed(done.stdout.splitlines()) if line.startswith("{")
                )
            )
        )

    def table(self) -> str:
        """A Markdown table of medians, the cheapest contender first."""
        lines = [
            "| contender | from | CPU ms a clip | clips/s | first batch, CPU s |",
            "|---|---|---|---|---|",
        ]
        rows = sorted(self.results.items(), key=lambda item: _median(map(_cpu_ms, item[1])))
        for (name, place), results in rows:
            rate = _median(result.clips / result.wall_seconds for result in results)
            first = _median(result.first_batch_cpu_seconds for result in results)
            lines.append(
                f"| {name} | {place} | {_median(map(_cpu_ms, results)):.1f} | {rate:.0f} | "
                f"{first:.2f} |"
            )
        return "\n".join(lines) + "\n"

    def limits(self) -> str:
        """Reading alone beside curl, resumes, and the stall of a consumer that waits."""
        ours, curl = (_median(rates) for rates in zip(*self.read_rates, strict=True))
        share = _median(ours / curl for ours, curl in self.read_rates)
        speeds = (
            f"{ours:.0f} MiB/s, checksums included; curl: {curl:.0f} MiB/s; ratio {share:.2f}"
        )
        lines = [f"* Reading alone, {READERS} chunks at a time: {speeds}."]
        for name, resumed in self.resumed.items():
            fresh = _median(
                result.first_batch_cpu_seconds for result in self.results[name, "S3"]
            )
            late = _median(result.first_batch_cpu_seconds for result in resumed)
            lines.append(
                f"* First batch of {name} from S3: {fresh:.2f} CPU-seconds at step 0, "
                f"{late:.2f} at step {RESUMES[name]:,}."
            )
        stall = _median(
            100 * result.stalled_seconds / result.wall_seconds for result in self.waited
        )
        lines.append(
            "* A consumer that waits 50 ms for each batch of a clip of 16 frames is stalled "
            f"{stall:.2f} % of the time."
        )
        return "\n" + "\n".join(lines) + "\n"


def _cpu_ms(result: Result) -> float:
    return 1000 * result.cpu_seconds / result.clips


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _peer_environment(work: Path) -> Path:
    """The Python of the peers' environment, made on the first call."""
    folder = work / "peers"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(
            f"making the environment of the peers in {folder}: some minutes",
            file=sys.stderr,
            flush=True,
        )
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--upgrade", "pip"], check=True
        )
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PEERS], check=True)
        (folder / "complete").touch()
    return python


def _prepare_energon(python: Path, corpus: Path) -> None:
    """Energon wants its own index beside the shards; its command asks nothing when given all of
    this.
    """
    options = [
        "--non-interactive",
        "--sample-type",
        "CrudeWebdataset",
        "--split-parts",
        "train:.*",
        "--num-workers",
        "1",
    ]
    subprocess.run(
        [str(python.parent / "energon"), "prepare", *options, str(corpus)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _is_published(folder: Path, url: str) -> bool:
    """Whether the indexes under `url` are those of `folder`: one of an older corpus, or of a
    run without peers, must be replaced.
    """
    indexes = [
        folder / name
        for name in ("index.json", ".nv-meta/.info.json")
        if (folder / name).exists()
    ]
    addresses = [storage.join(url, path.relative_to(folder).as_posix()) for path in indexes]
    return all(
        storage.exists(address) and storage.read_bytes(address, 1 << 30) == path.read_bytes()
        for address, path in zip(addresses, indexes, strict=True)
    )


def _storage_of_energon() -> dict[str, object]:
    """What the multi-storage client wants to know of our object store; msc://bench/... is then
    s3://bench/...
    """
    options = {
        "base_path": BUCKET,
        "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "region_name": os.environ["AWS_DEFAULT_REGION"],
    }
    return {"profiles": {BUCKET: {"storage_provider": {"type": "s3", "options": options}}}}


if __name__ == "__main__":
    command.run(main)

"""What observing costs the training loop, in microseconds a step.

    python -m tools.bench_observe

Each row is one way of observing, with a record of the size of a real one (two objectives); the
loop calls `enter` four times and `step` once. "scraped" reads the metrics every 0.2 s
meanwhile, fifty times as often as a Prometheus would. On a machine that is busy with other work
the time of the clock says little; the processor time of the loop's thread still does.
"""

import argparse
import io
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from ausl_dist import command
from ausl_dist.observe.observer import Observer
from ausl_dist.observe.record import StepRecord
from ausl_dist.observe.settings import ExporterSettings, ObserveSettings

REPEATS = 7
SCRAPE_SECONDS = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=2000, help="steps of each of the 7 repeats"
    )
    parser.add_argument(
        "--step-seconds",
        type=float,
        default=0.1,
        help="length of a step that the share is given of",
    )
    arguments = parser.parse_args()
    if arguments.steps < 10 or arguments.step_seconds <= 0:
        raise ValueError("need --steps of at least 10 and --step-seconds above 0")
    share = f"share of a step of {arguments.step_seconds * 1000:g} ms"
    print(
        f"| observing | rank | µs a step | {share} | µs of processor time | {share} "
        "|\n|---|---|---|---|---|---|"
    )
    off, quiet = (
        ObserveSettings(enabled=False),
        ObserveSettings(console="quiet", exporter=ExporterSettings(enabled=False)),
    )
    on = ObserveSettings(console="plain")
    cases = [
        ("off", off, False),
        ("on, no exporter", quiet, False),
        ("on", on, False),
        ("on, scraped", on, True),
    ]
    for name, settings, scraped in cases:
        for rank in (0, 1):
            both = measure(settings, rank, scraped, arguments.steps)
            cells = " | ".join(
                f"{seconds * 1e6:.1f} | {seconds / arguments.step_seconds:.4%}"
                for seconds in both
            )
            print(f"| {name} | {rank} | {cells} |", flush=True)
    return 0


def measure(
    settings: ObserveSettings, rank: int, scraped: bool, steps: int
) -> tuple[float, float]:
    """Medians over the repeats of the mean seconds a step: by the clock, and of the loop's
    thread on a processor.
    """
    with tempfile.TemporaryDirectory() as folder:
        observer = Observer(
            settings,
            run_folder=Path(folder),
            run_name="bench",
            rank=rank,
            world_size=1,
            attempt=1,
            start_step=0,
            total_steps=steps * REPEATS,
            stream=io.StringIO(),
        )
        with observer, scraping(observer.metrics_url if scraped else None):
            clock, processor = zip(
                *(_one_repeat(observer, repeat * steps, steps) for repeat in range(REPEATS)),
                strict=True,
            )
            return median(clock), median(processor)


def _one_repeat(observer: Observer, start: int, steps: int) -> tuple[float, float]:
    records = [_record(start + step) for step in range(steps)]
    begin, begin_processor = time.perf_counter(), time.thread_time()
    for record in records:
        for phase in ("data", "forward", "backward", "optimizer"):
            observer.enter(phase)
        observer.step(record)
    return (time.perf_counter() - begin) / steps, (time.thread_time() - begin_processor) / steps


def _record(step: int) -> StepRecord:
    names = [
        f"{objective}/{what}"
        for objective in ("ranking", "contrast")
        for what in ("loss", "accuracy", "feature_std")
    ]
    return StepRecord(
        step=step,
        clips=32,
        frames=384,
        loss=0.123456789 * step,
        logs=dict.fromkeys(names, 0.123456789 * step),
        seconds={
            "data": 0.001,
            "forward": 0.04,
            "backward": 0.05,
            "optimizer": 0.009,
            "save": 0.0,
            "total": 0.1,
        },
        learning_rate=1e-3,
        gradient_norm=1.5,
        loader_blocked={"fetch": 0.1 * step, "unpack": 0.01 * step, "decode": 0.2 * step},
        loader_counts={
            "clips": 32 * step,
            "frames": 384 * step,
            "bytes": 10**6 * step,
            "retries": 2,
            "missing_decode": 1,
        },
    )


@contextmanager
def scraping(url: str | None) -> Iterator[None]:
    """Read `url` again and again from a thread, as Prometheus would."""
    end = threading.Event()

    def scrape(address: str) -> None:
        while not end.wait(SCRAPE_SECONDS):
            urllib.request.urlopen(address, timeout=10).read()

    thread = threading.Thread(target=scrape, args=(url,)) if url is not None else None
    if thread is not None:
        thread.start()
    try:
        yield
    finally:
        end.set()
        if thread is not None:
            thread.join()


if __name__ == "__main__":
    command.run(main)

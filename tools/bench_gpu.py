"""Everything that one GPU is to be measured for, in one command: decoding, loading, stepping,
saving, learning, repeating.

    python -m tools.bench_gpu                     all parts on this machine's GPU, in ten minutes
    python -m tools.bench_gpu --parts decode,step
    python -m tools.bench_gpu --size tiny         the same parts, small, on a CPU: the script runs

Each part is a process of its own with a limit of time: one that hangs or dies costs itself, and
what it had measured until then is kept. `--size tiny` runs all of them in this process. Prints
a table for each part and, last, the goals beside the figures; all of it is written as JSON,
after each part.
"""

import argparse
import contextlib
import importlib
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ausl_dist import command
from ausl_dist.files import read_json, write_json
from tools.gpu_bench import goals
from tools.gpu_bench.sizes import SIZES, GpuBench, Measured, Numbers

PARTS = {
    "decode": "data",
    "loader": "data",
    "stall": "data",
    "step": "training",
    "compiled": "training",
    "zero": "training",
    "save": "training",
    "determinism": "training",
    "learning": "learning",
}
FAILED = "failed"  # the name of what a part failed of, among its numbers


def main() -> int:
    arguments = _parser().parse_args()
    parts = arguments.parts.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    results: dict[str, Any] = {"machine": machine(), "size": arguments.size, "parts": {}}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    here = arguments.here or arguments.size == "tiny"
    size = SIZES[arguments.size]
    until = time.monotonic() + size.all_seconds
    for part in parts:
        began = time.monotonic()
        result = results["parts"][part] = {"seconds": 0.0, "numbers": {}}

        def keep(numbers: Numbers, began: float = began, result: Any = result) -> None:
            result["numbers"] |= numbers
            result["seconds"] = time.monotonic() - began
            results["goals"] = goals.as_json(_judged(results))
            write_json(arguments.out, results)

        measure(part, arguments.size, min(size.part_seconds, until - began), keep, here=here)
        _print(part, result)
    print(f"\n{goals.as_table(_judged(results))}\n\n{arguments.out}")
    return any(FAILED in result["numbers"] for result in results["parts"].values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        help="which, by commas (default: all, in this order)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench_gpu.json"),
        metavar="FILE",
        help="where the results are written (default: runs/bench_gpu.json)",
    )
    parser.add_argument("--here", action="store_true", help="all parts in this process")
    return parser


def measure(
    part: str, size: str, seconds: float, keep: Callable[[Numbers], None], *, here: bool
) -> None:
    """Measure one part, and `keep` its numbers; what it fails of is one of them, and the other
    parts go on.
    """
    if seconds < 1:
        keep({FAILED: f"not begun: {SIZES[size].all_seconds:.0f} s were over"})
    elif here:
        _in_this_process(part, size, seconds, keep)
    else:
        keep(_in_a_process(part, size, seconds))


def _in_this_process(
    part: str, size: str, seconds: float, keep: Callable[[Numbers], None]
) -> None:
    keep({})
    try:
        with tempfile.TemporaryDirectory(prefix="bench-gpu-") as work, _at_most(seconds):
            module = importlib.import_module(f"tools.gpu_bench.{PARTS[part]}")
            numbers: Measured = getattr(module, part)(GpuBench(SIZES[size], Path(work)))
            for some in numbers:
                keep(some)
    except Exception as error:  # noqa: BLE001 - the other parts are still worth having
        traceback.print_exc()
        keep({FAILED: f"{type(error).__name__}: {' '.join(str(error).split())}"})


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def over(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _in_a_process(part: str, size: str, seconds: float) -> Numbers:
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        out = Path(scratch) / "part.json"
        words = ["--parts", part, "--size", size, "--here", "--out", str(out)]
        trouble: Numbers = {}
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "tools.bench_gpu", *words],
                stdout=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
            if ended.returncode not in (0, 1):
                trouble = {FAILED: f"ended with {ended.returncode}; what it said stands above"}
        except subprocess.TimeoutExpired:
            trouble = {FAILED: f"not done after {seconds:.0f} s"}
        found: Numbers = read_json(out)["parts"][part]["numbers"] if out.exists() else {}
        return trouble | found if FAILED in found else found | trouble


def machine() -> dict[str, str]:
    """What the figures are of."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "card": torch.cuda.get_device_name() if cuda else "none: a CPU",
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "host": platform.processor() or platform.machine(),
    }


def _judged(results: dict[str, Any]) -> list[goals.Judged]:
    numbers = {part: result["numbers"] for part, result in results["parts"].items()}
    return goals.judge(numbers, gpu=not results["machine"]["card"].startswith("none"))


def _print(part: str, result: dict[str, Any]) -> None:
    print(f"\n| {part}, {result['seconds']:.0f} s | |\n|---|---|")
    for name, value in result["numbers"].items():
        text = value if isinstance(value, str) else f"{value:,.4g}"
        print(f"| {name} | {text} |")
    print(flush=True)


if __name__ == "__main__":
    command.run(main)

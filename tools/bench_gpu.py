"""Everything that one GPU is to be measured for, in one command: decoding, loading, stepping,
saving, learning, repeating.

    python -m tools.bench_gpu --out gpu.json                  all parts on this machine's GPU,
    under
                                                              ten minutes
    python -m tools.bench_gpu --parts decode,step python -m tools.bench_gpu --size tiny
    the same parts on a CPU, small: that the
                                                              script runs

Each part is a process of its own with a limit of time, so that one that hangs or dies costs
only itself; results are kept as they come. `--size tiny` runs all in this process.
"""

import argparse
import importlib
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ausl_dist import command
from ausl_dist.files import read_json, write_json
from tools.gpu_bench.sizes import SIZES, GpuBench, Numbers

PARTS = {
    "decode": "data",
    "loader": "data",
    "stall": "data",
    "step": "training",
    "zero": "training",
    "save": "training",
    "determinism": "training",
    "learning": "learning",
}
PART_SECONDS = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        help="which, by commas (default: all, in this order)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument(
        "--here", action="store_true", help="in this process, without a limit of time"
    )
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    results: dict[str, Any] = {"machine": _machine(), "size": arguments.size, "parts": {}}
    for part in parts:
        began = time.monotonic()
        here = arguments.here or arguments.size == "tiny"
        numbers = (_measure if here else _in_a_process)(part, arguments.size)
        results["parts"][part] = {"seconds": time.monotonic() - began, "numbers": numbers}
        _print(part, results["parts"][part])
        if arguments.out is not None:
            write_json(arguments.out, results)
    return (
        1 if any("failed" in result["numbers"] for result in results["parts"].values()) else 0
    )


def _measure(part: str, size: str) -> Numbers:
    """One part; what it fails of is its result, and the other parts go on."""
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as work:
        try:
            module = importlib.import_module(f"tools.gpu_bench.{PARTS[part]}")
            numbers: Numbers = getattr(module, part)(GpuBench(SIZES[size], Path(work)))
            return numbers
        except Exception as error:  # noqa: BLE001 - the other parts are still worth having
            traceback.print_exc()
            return {"failed": f"{type(error).__name__}: {error}"}


def _in_a_process(part: str, size: str) -> Numbers:
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        out = Path(scratch) / "part.json"
        words = ["--parts", part, "--size", size, "--here", "--out", str(out)]
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "tools.bench_gpu", *words],
                stdout=subprocess.DEVNULL,
                timeout=PART_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {PART_SECONDS:.0f} s"}
        if not out.exists():
            return {"failed": f"ended with {ended.returncode}; what it said stands above"}
        numbers: Numbers = read_json(out)["parts"][part]["numbers"]
        return numbers


def _machine() -> dict[str, str]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "card": torch.cuda.get_device_name() if cuda else "none: a CPU",
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "host": platform.processor() or platform.machine(),
    }


def _print(part: str, result: dict[str, Any]) -> None:
    print(f"\n| {part}, {result['seconds']:.0f} s | |\n|---|---|")
    for name, value in result["numbers"].items():
        text = value if isinstance(value, str) else f"{value:,.4g}"
        print(f"| {name} | {text} |")
    print(flush=True)


if __name__ == "__main__":
    command.run(main)

"""What objectives learn, by `tools.bench_objectives` as it is, in a process of its own."""

import subprocess
import sys

from tools.gpu_bench.sizes import GpuBench, Numbers


def learning(bench: GpuBench) -> Numbers:
    """The table of scores, a row a number; at the tiny size only that the command starts."""
    command = [sys.executable, "-m", "tools.bench_objectives"]
    if not bench.size.learning:
        subprocess.run([*command, "--help"], check=True, capture_output=True)
        return {"tools.bench_objectives": "starts; minutes to learn, so not at this size"}
    words = ["learn", "--work", str(bench.work / "learning"), *bench.size.learning]
    said = subprocess.run([*command, *words], check=True, capture_output=True, text=True).stdout
    rows = [line for line in said.splitlines() if line.startswith("|")]
    return {row.split("|")[1].strip(): row for row in rows[2:]}

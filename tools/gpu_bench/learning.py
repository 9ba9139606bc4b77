"""What objectives learn, by `tools.bench_objectives` as it is."""

import contextlib
import io

from tools import bench_objectives
from tools.gpu_bench.sizes import GpuBench, Measured


def learning(bench: GpuBench) -> Measured:
    """The table of scores, a row a number; at the tiny size two steps, which learn nothing."""
    said = io.StringIO()
    words = ["learn", "--work", str(bench.work / "learning"), *bench.size.learning]
    with contextlib.redirect_stdout(said):
        bench_objectives.main(words)
    rows = [line for line in said.getvalue().splitlines() if line.startswith("|")]
    yield {row.split("|")[1].strip(): " ".join(row.split("|")[2:]).strip() for row in rows[2:]}

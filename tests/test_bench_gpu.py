"""The GPU's benchmark runs whole on a CPU: on the day that a card is lent it must not fail for
a foolish reason.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from ausl_dist.files import read_json

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(600)
def test_every_part_runs_in_its_small_form(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    words = ["--size", "tiny", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-m", "tools.bench_gpu", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    parts = read_json(out)["parts"]
    numbers = {part: result["numbers"] for part, result in parts.items()}
    assert list(parts) == [
        *("decode", "loader", "stall", "step"),
        *("zero", "save", "determinism", "learning"),
    ]
    assert all(value == "equal" for value in numbers["determinism"].values())
    assert any(name.startswith("pyav") and "8 at once" in name for name in numbers["decode"])
    assert numbers["loader"]["loader, vp9, decoder=pyav, frames/s"] > 0
    assert 0 <= numbers["stall"]["stall, share of a run"] <= 1
    assert [name for name in numbers["zero"] if name.startswith("ZeRO")] == [
        f"ZeRO {stage}, ms" for stage in range(4)
    ]
    assert "| plain torch, ms |" in ended.stdout

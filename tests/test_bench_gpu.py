"""The GPU's benchmark runs whole on a CPU: on the day that a card is lent it must not fail for
a foolish reason, nor one part take the others with it.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ausl_dist.files import read_json
from tools import bench_gpu
from tools.gpu_bench import data
from tools.gpu_bench.goals import as_table, judge
from tools.gpu_bench.sizes import Measured, Numbers

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
    results = read_json(out)
    numbers = {part: result["numbers"] for part, result in results["parts"].items()}
    assert list(numbers) == list(bench_gpu.PARTS)
    assert list(numbers["determinism"].values()) == ["equal"] * 2
    assert any(name.startswith("pyav") and "8 at once" in name for name in numbers["decode"])
    assert numbers["loader"]["loader, vp9, decoder=pyav, frames/s"] > 0
    assert numbers["loader"]["bare DALI, vp9, 2 sessions, frames/s"] > 0
    assert numbers["loader"]["loader over the bare decoder, vp9"] > 0
    assert 0 <= numbers["stall"]["stall, share of a run"] <= 1
    assert numbers["compiled"]["small_conv, bf16, channels last, compiled by eager, ms"] > 0
    assert "landmark_deviation" in numbers["learning"]
    assert [name for name in numbers["zero"] if name.startswith("ZeRO")] == [
        f"ZeRO {stage}, ms" for stage in range(4)
    ]
    assert "| plain torch, ms |" in ended.stdout
    verdicts = {row["goal"]: row["verdict"] for row in results["goals"]}
    assert verdicts["stall, share of a run"] == "no GPU"
    assert verdicts["MFU of a ViT in bf16"] == "not measured"


class Kept:
    def __init__(self) -> None:
        self.numbers: Numbers = {}

    def __call__(self, numbers: Numbers) -> None:
        self.numbers |= numbers


def test_a_part_that_fails_or_hangs_keeps_what_it_had_and_ends_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(bench: object) -> Measured:
        yield {"first": 1.0}
        raise RuntimeError("out of memory")

    def hanging(bench: object) -> Iterator[Numbers]:
        yield {"first": 1.0}
        while True:
            pass

    for part, said in (
        (failing, "RuntimeError: out of memory"),
        (hanging, "TimeoutError: not done after 1 s"),
    ):
        monkeypatch.setattr(data, "decode", part)
        kept = Kept()
        bench_gpu.measure("decode", "tiny", 1.0, kept, here=True)
        assert kept.numbers == {"first": 1.0, "failed": said}
    kept = Kept()
    bench_gpu.measure("decode", "tiny", 0.0, kept, here=True)
    assert kept.numbers["failed"] == "not begun: 3600 s were over"


def test_a_process_that_is_too_slow_is_ended_and_says_so() -> None:
    kept = Kept()
    bench_gpu.measure("learning", "tiny", 1.0, kept, here=False)
    assert kept.numbers["failed"] == "not done after 1 s"


def test_goals_stand_beside_the_best_figures() -> None:
    parts: dict[str, Numbers] = {
        "loader": {
            "loader, vp9, decoder=pyav, frames/s": 3000.0,
            "loader, vp9, decoder=dali, frames/s": 12000.0,
            "loader over the bare decoder, vp9": 0.8,
            "loader over the bare decoder, mjpeg": "not measured: no bare decoder",
        },
        "stall": {"stall, share of a run": 0.004, "step, ms": 200.0},
        "step": {"vit_base_patch16_224, fp32, MFU": 0.6},
        "compiled": {"vit_base_patch16_224, bf16, channels last, MFU": 0.47},
    }
    rows = judge(parts, gpu=True)
    assert [row.verdict for row in rows] == ["reached", "missed", "reached", "reached"]
    assert "| loader over the bare decoder | at least 0.85 | 0.8 | missed |" in as_table(rows)
    assert {row.verdict for row in judge({}, gpu=True)} == {"not measured"}

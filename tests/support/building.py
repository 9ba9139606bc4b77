"""The command that builds a corpus, as tests give it, and real videos to build one from."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
REAL = (
    "intel-iot-devkit__sample-videos__eat.mkv",
    "intel-iot-devkit__sample-videos__want.mkv",
    "rizkiarm__LipNet__bbaf2n.mpg",
)


def command(inputs: Path, out: Path | str, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "tools" / "build_corpus.py"),
        str(inputs),
        "--out",
        str(out),
        "--name",
        "test",
        *more,
    ]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
    )

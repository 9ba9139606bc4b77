"""The report, looked at in a real browser: it must draw its curves without network and without
an error.
"""

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from ausl_dist.observe.observer import Observer, StepRecord
from ausl_dist.observe.report import build_report
from ausl_dist.observe.settings import ObserveSettings
from ausl_dist.pages.plot import COLOURS

WIDTH, HEIGHT = 1400, 1600


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip("no Chromium on this machine: apt-get install chromium")


def make_run(run: Path) -> None:
    settings = ObserveSettings(enabled=False)
    with Observer(
        settings,
        run_folder=run,
        run_name="demo",
        rank=0,
        world_size=1,
        attempt=1,
        start_step=0,
        total_steps=200,
    ) as observer:
        for step in range(200):
            seconds = {
                "data": 0.02,
                "forward": 0.05,
                "backward": 0.02,
                "optimizer": 0.01,
                "total": 0.1,
            }
            blocked = {"fetch": 0.01 * step, "decode": 0.02 * step}
            logs = {"ranking/loss": 1 / (step + 1), "contrast/loss": 2 / (step + 2)}
            observer.step(
                StepRecord(
                    step,
                    8,
                    96,
                    3 / (step + 1),
                    logs,
                    seconds,
                    1e-3,
                    1.0,
                    loader_blocked=blocked,
                )
            )


@pytest.mark.timeout(180)
def test_curves_are_drawn(tmp_path: Path) -> None:
    program = browser()
    make_run(tmp_path / "run")
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(build_report(tmp_path / "run"))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--hide-scrollbars",
    ]
    options += [
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={WIDTH},{HEIGHT}",
        "--enable-logging=stderr",
    ]
    command = [program, *options, f"--screenshot={picture}", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert picture.exists(), shown.stderr
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []
    pixels = cv2.imread(str(picture))[:, :, ::-1].astype(int)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    for colour in COLOURS[:2]:  # two objectives, two curves
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (abs(pixels - wanted).sum(-1) < 60).sum() > 300, (
            f"hardly anything is drawn in {colour}"
        )

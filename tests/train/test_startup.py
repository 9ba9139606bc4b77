"""Ranks that come late are waited for at the start; afterwards a silent rank is given up as
fast as a collective may take.
"""

import os
import time

import torch
import torch.distributed as dist

from ausl_dist.train.process_group import end_startup, start_ranks
from ausl_dist.train.settings import EngineSettings
from tests.support.ranks import run_ranks

COLLECTIVE_SECONDS, LATE_SECONDS = 3.0, 6.0


def comes_late_and_then_falls_silent() -> tuple[str, float]:
    """What a rank is told of the other, which is late three times, and how long it waited the
    last time.
    """
    settings = EngineSettings(collective_timeout_seconds=COLLECTIVE_SECONDS, device="cpu")
    late = int(os.environ["RANK"])
    time.sleep(late * LATE_SECONDS)
    start_ranks(settings, startup_timeout_seconds=200)
    group = dist.new_group()
    time.sleep(late * LATE_SECONDS)
    dist.all_reduce(torch.ones(1), group=group)
    end_startup(settings)
    dist.barrier(group=group)
    began = time.monotonic()
    if late:
        time.sleep(2 * LATE_SECONDS)
        return "", 0.0
    try:
        dist.all_reduce(torch.ones(1), group=group)
    except RuntimeError as error:
        return str(error), time.monotonic() - began
    raise AssertionError("the other rank never came")


def test_a_late_rank_is_waited_for_at_the_start_alone() -> None:
    (told, seconds), _ = run_ranks(comes_late_and_then_falls_silent, 2, timeout_seconds=120)
    assert "imed out" in told
    assert COLLECTIVE_SECONDS - 0.5 < seconds < 2 * LATE_SECONDS

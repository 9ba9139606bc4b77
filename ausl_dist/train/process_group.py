"""The process group: how ranks find each other, and how long they wait for one another.

RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT ──▶ start_ranks ──▶ device
the first step is done ──▶ end_startup: from now on a collective's own time-out holds
"""

import functools
import logging
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from ausl_dist.train.arithmetic import arithmetic_of, set_switches
from ausl_dist.train.settings import EngineSettings
from ausl_dist.train.stability import DivergedError

T = TypeVar("T")


def start_ranks(
    settings: EngineSettings, startup_timeout_seconds: float | None = None
) -> torch.device:
    """Join this process to its process group, by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
    MASTER_PORT; returns its device.

    Given a time-out for the start-up, ranks wait so long for each other, here and in
    collectives, until `end_startup`: one may come late, fetch a checkpoint or compile. Without,
    a collective's own time-out holds from the beginning.
    """
    missing = [
        name
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f"not started as a rank: {', '.join(missing)} missing from the environment; "
            "start runs with launch/"
        )
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("engine.device=cuda, but torch sees no GPU: type engine.device=cpu")
    cuda = _computes_on_gpu(settings)
    if settings.precision == "fp16" and not cuda:
        raise ValueError(
            "engine.precision=fp16 needs a GPU: type engine.precision=bf16_autocast"
        )
    import_deepspeed(settings)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # Of DeepSpeed's way to call collectives: nobody here can do anything about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    # Otherwise compiled at every start where a compiler is found; it hangs on a stale lock and
    # leaks shared memory.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    timeout = timedelta(
        seconds=max(startup_timeout_seconds or 0.0, settings.collective_timeout_seconds)
    )
    _give_new_groups(timeout)
    device = (
        torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    )
    if cuda:
        torch.cuda.set_device(device)
    set_switches(arithmetic_of(settings, device))
    deepspeed.init_distributed(
        "nccl" if cuda else "gloo", auto_mpi_discovery=False, timeout=timeout, verbose=False
    )
    return device


def import_deepspeed(settings: EngineSettings) -> None:
    """Import DeepSpeed for the device that these settings come to on this machine."""
    # read when deepspeed is first imported
    os.environ["DS_ACCELERATOR"] = "cuda" if _computes_on_gpu(settings) else "cpu"
    import deepspeed  # noqa: F401


def _computes_on_gpu(settings: EngineSettings) -> bool:
    return settings.device != "cpu" and torch.cuda.is_available()


def end_startup(settings: EngineSettings) -> None:
    """From now on ranks wait for each other no longer than inside one collective, in the groups
    that are there and in new ones.
    """
    timeout = timedelta(seconds=settings.collective_timeout_seconds)
    _give_new_groups(timeout)
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timeout, group)


def _give_new_groups(timeout: timedelta) -> None:
    # DeepSpeed makes its groups without a timeout: they would wait 30 minutes for a dead rank,
    # whatever was set for the first one.
    original: Callable[..., Any] = getattr(dist.new_group, "__wrapped__", dist.new_group)

    @functools.wraps(original)
    def new_group(*arguments: Any, **options: Any) -> Any:
        options.setdefault("timeout", timeout)
        return original(*arguments, **options)

    dist.new_group = new_group


def broadcast_from_rank_0(find: Callable[[], T]) -> T:
    """What `find` gives on rank 0, on every rank; what it raises is raised on every rank too,
    or the others would wait.
    """
    told: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            told[0] = find()
        except (ValueError, OSError, DivergedError) as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    found: T = told[0]
    return found

"""Run a function on several real ranks (gloo, loopback), each a process of its own."""

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

from launch.ports import free_ports
from tests.support.forked import start


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }


def run_ranks(
    function: Callable[..., Any], world_size: int, *arguments: Any, timeout_seconds: float = 400
) -> list[Any]:
    """Call `function(*arguments)` on every rank at once; returns each rank's result, or fails
    with the first rank's traceback.
    """
    (port,) = free_ports(1)
    pipes, processes = [], []
    for rank in range(world_size):
        here, there = multiprocessing.Pipe(duplex=False)
        environment = {**os.environ, **rank_environment(rank, world_size, port)}
        process = start(_run, (there, function, arguments), environment)
        there.close()
        pipes.append(here)
        processes.append(process)
    try:
        results = []
        for rank, pipe in enumerate(pipes):
            if not pipe.poll(timeout_seconds):
                raise TimeoutError(f"rank {rank} said nothing for {timeout_seconds} s")
            try:
                good, value = pickle.loads(pipe.recv_bytes())
            except EOFError:
                good, value = False, "died without a word"
            assert good, f"rank {rank}: {value}"
            results.append(value)
        for process in processes:
            process.join(30)
        return results
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()


def _run(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        result = (True, function(*arguments))
    except BaseException:  # noqa: BLE001 - handed to the parent
        result = (False, traceback.format_exc())
    # Plain pickle: the pipe's own would share tensors through this process, which is gone when
    # they are read.
    pipe.send_bytes(pickle.dumps(result))

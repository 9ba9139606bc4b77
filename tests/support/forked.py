"""Processes that begin with everything heavy in memory: forked from one server that has imported
torch, timm and DeepSpeed once.

    tests ──▶ server (imports, once) ──▶ fork: a rank ──▶ its environment, its folder, its work

A rank that starts as a new Python spends some seven processor seconds on these imports, and the
tests start dozens of ranks. What a new Python does of its own is tested where a run is launched
by its command: `tests/integration/`, and the undisturbed run of `tests/train/test_kill.py`.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from launch.child import die_with_parent
from tools.kills.start import Forked


def start(
    function: Callable[..., Any], arguments: tuple[Any, ...], environment: Mapping[str, str]
) -> ForkServerProcess:
    """Run `function(*arguments)` in a process of its own, with exactly this environment."""
    work = (dict(environment), os.getcwd(), function, arguments)
    process = _server().Process(target=_run, args=work, daemon=True)
    process.start()
    return process


def start_module(
    module: str, *arguments: str, environment: Mapping[str, str], output: Path
) -> Forked:
    """`python -m MODULE ARGUMENT ...` as a fork, with what is used of Popen's methods."""
    work = (dict(environment), os.getcwd(), _run_module, (module, arguments, output))
    return Forked(_server(), _run, *work)


def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preloaded"])
    return context


def _run(
    environment: dict[str, str],
    folder: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    die_with_parent()  # with the server, which ends with the tests
    os.environ.clear()
    os.environ.update(environment)  # the server's own is that of its start
    os.chdir(folder)
    function(*arguments)


def _run_module(module: str, arguments: tuple[str, ...], output: Path) -> None:
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

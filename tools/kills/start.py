"""One start of a run: its launcher or its supervisors, and the ranks that they start.

fresh     new Python processes, as anybody starts them
forked    forks of a process that has loaded the modules already, in a quarter of the time;
          what they run from then on is the same, and so is how they are killed
"""

import faulthandler
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from ausl_dist.run_folder import LOGS_FOLDER
from launch.child import TRAINER, die_with_parent

RANKS = 2
STARTERS = ("launcher", "supervisor")
POLL_SECONDS = 0.02
ROOT = Path(__file__).parents[2]
LOADED = "tools.kills.loaded"

_SERVER = multiprocessing.get_context("forkserver")
_FORKS = multiprocessing.get_context("fork")


class Forked:
    """A forked process with as much of Popen's interface as is used of it."""

    def __init__(self, method: Any, work: Callable[..., object], *words: Any) -> None:
        self._process = method.Process(target=work, args=words)
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Start:
    """The processes of one start of a run, which end with the block."""

    def __init__(self, folder: Path, starter: str, restart: int, *, fresh: bool) -> None:
        self.folder, self.starter = folder, starter
        begin = _fresh if fresh else _forked
        log = folder / LOGS_FOLDER / "trial.log"
        self.starters = [begin(words, log) for words in _words(folder, starter, restart)]

    def __enter__(self) -> "Start":
        return self

    def __exit__(self, *arguments: object) -> None:
        """End all that is left, as the end of a job does, and wait until it is gone."""
        ranks = self.ranks()
        for process in self.starters:
            process.kill()
        for process in self.starters:
            process.wait()
        while any(is_alive(pid) for pid in ranks):  # the kernel ends them with their parents
            time.sleep(POLL_SECONDS)

    @property
    def running(self) -> bool:
        return all(process.poll() is None for process in self.starters)

    def ranks(self) -> list[int]:
        """The processes that train."""
        return [child for process in self.starters for child in children(process.pid)]

    def kill(self, part: str, chance: random.Random) -> str:
        """Kill a rank, or whoever started one; returns what it was."""
        ranks = self.ranks()
        if part == "rank" and ranks:
            os.kill(chance.choice(ranks), signal.SIGKILL)
            return "rank"
        chance.choice(self.starters).kill()
        return self.starter

    def wait(self, seconds: float) -> int:
        """Wait for the end of all, so long at most; the worst exit code."""
        deadline = time.monotonic() + seconds
        codes = [
            process.wait(max(0.1, deadline - time.monotonic())) for process in self.starters
        ]
        return max(codes, key=abs)


def _words(folder: Path, starter: str, restart: int) -> list[list[str]]:
    """Module and arguments of every process to start."""
    if starter == "launcher":
        return [["launch", "resume", str(folder)]]
    return [
        ["tools.kill_trial", "--supervise", str(folder), str(rank), str(restart)]
        for rank in range(RANKS)
    ]


def _environment() -> dict[str, str]:
    ours = {"AUSL_OBJECTIVES": "tools.kills", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    return {**os.environ, **ours}


def _fresh(words: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            env=_environment(),
            stdout=output,
            stderr=output,
            cwd=ROOT,
            preexec_fn=die_with_parent,
        )


def _forked(words: list[str], log: Path) -> Forked:
    os.environ.update(_environment())  # before the server starts, which inherits it
    _SERVER.set_forkserver_preload([LOADED])
    return Forked(_SERVER, _be_starter, words, log, _environment())


def _be_starter(words: list[str], log: Path, environment: Mapping[str, str]) -> None:
    from launch import local, supervise

    with open(log, "ab") as output:
        _become(environment, output)
    local.start_rank = supervise.start_rank = _fork_rank  # type: ignore[assignment]
    os.chdir(ROOT)
    _run_module(words[0], words[1:])


def _fork_rank(
    run_folder: Path,
    environment: Mapping[str, str],
    output: IO[bytes] | None,
    *,
    module: str = TRAINER,
    own_session: bool = False,
) -> Forked:
    """What `launch.child.start_rank` does, by a fork."""
    whole = {**os.environ, **environment}
    return Forked(_FORKS, _be_rank, run_folder, whole, output, module, own_session)


def _be_rank(
    run_folder: Path,
    environment: Mapping[str, str],
    output: IO[bytes] | None,
    module: str,
    own_session: bool,
) -> None:
    for number in (signal.SIGTERM, signal.SIGUSR2):  # a new process has no handlers
        signal.signal(number, signal.SIG_DFL)
    if own_session:
        os.setsid()
    _become(environment, output)
    _run_module(module, [str(run_folder)])


def _become(environment: Mapping[str, str], output: IO[bytes] | None) -> None:
    """Be a process of this environment that writes to `output` and ends with its parent."""
    die_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    if output is not None:
        for number in (1, 2):
            os.dup2(output.fileno(), number)
    faulthandler.enable()


def _run_module(module: str, words: list[str]) -> None:
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(word) for word in path.read_text().split()]
    except OSError:  # it is gone, perhaps while it was read
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")

"""A real Slurm of several nodes on this machine's loopback, with accounting: munged, mariadbd,
slurmdbd, slurmctld, one slurmd a node.

    with SlurmCluster(folder) as cluster:
        subprocess.run(["sbatch", ...], env={**os.environ, **cluster.environment})

Nodes are named like loopback addresses (127.0.0.11, ...), so that the names in
SLURM_JOB_NODELIST resolve without editing hosts. Job ids begin at the controller's port: ranks
meet at ports that follow from their job's id, and two clusters may live at once. Jobs of
partition `low` are preempted by those of `high`, with a user signal beforehand unless the
cluster is made with `user_signal=False`. Every daemon runs in the foreground as a child of this
process and dies with it.
"""

import glob
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from tests.support.slurm_files import ACCOUNTING, CONFIGURATION, DEVICES

PROGRAMS = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "sbatch",
    "munged",
    "mariadbd",
    "mariadb-install-db",
)
PACKAGES = (
    "slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins slurmdbd "
    "mariadb-server-core mariadb-client-core"
)
START_SECONDS = 60.0
STOP_SECONDS = 40.0
FIRST_NODE = 11
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing() -> str:
    """Why no cluster can be started here and how to get one; empty where it can."""
    absent = [
        program for program in PROGRAMS if shutil.which(program, path=SEARCH_PATH) is None
    ]
    if absent:
        return (
            f"no Slurm here ({', '.join(absent)} missing): "
            f"apt-get install --no-install-recommends {PACKAGES}"
        )
    if os.geteuid() != 0:
        return (
            "the Slurm on loopback needs root (its daemons switch users): "
            "run the tests as root or in a container"
        )
    return ""


class SlurmCluster:
    """The daemons of one cluster in `folder`; started by `with`, all stopped at its end
    together with every task of their jobs.
    """

    def __init__(self, folder: Path, nodes: int = 4, *, user_signal: bool = True) -> None:
        self.folder = Path(folder).resolve()
        self.nodes = [f"127.0.0.{FIRST_NODE + i}" for i in range(nodes)]
        self.configuration = self.folder / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self.configuration), "PATH": SEARCH_PATH}
        self._user_signal = user_signal
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "SlurmCluster":
        try:
            ports = self._write_configuration()
            self._start_munge()
            self._start_accounting(*ports)
            self.start_controller(clean=True)
            for node in self.nodes:
                self.start_node(node)
            self._wait(
                "all nodes idle",
                lambda: (
                    self.output("sinfo", "-hNp", "low", "-o", "%t").split()
                    == ["idle"] * len(self.nodes)
                ),
            )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _ in range(3):  # a task may be forking while we look
            for process in self.task_processes():
                kill(process)
            time.sleep(0.05)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(3)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def start_controller(self, *, clean: bool = False) -> None:
        self._start(
            "slurmctld",
            "slurmctld",
            "-D",
            "-f",
            str(self.configuration),
            *(["-c"] if clean else []),
        )
        self._wait("the controller", lambda: "UP" in self.output("scontrol", "ping"))

    def stop_controller(self) -> None:
        """End the controller as an administrator does: it writes its state, and the jobs run on
        without it.
        """
        controller = self._daemons.pop("slurmctld")
        controller.terminate()
        try:
            controller.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            controller.kill()
            raise

    def start_node(self, node: str) -> None:
        (self.folder / "spool" / node).mkdir(parents=True, exist_ok=True)
        self._start(node, "slurmd", "-D", "-N", node, "-f", str(self.configuration))

    def cut_node(self, node: str) -> None:
        """End a node's daemon: the controller loses the node, and the tasks on it go on as
        orphans.
        """
        self._daemons[node].kill()
        self._daemons.pop(node).wait()

    def declare_down(self, node: str) -> None:
        """What the controller does by itself when a node has not answered for half a minute."""
        self.output("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def bring_back(self, node: str) -> None:
        self.start_node(node)
        self.output("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def run(
        self, *command: str, timeout_seconds: float = 20.0
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def output(self, *command: str) -> str:
        return self.run(*command).stdout

    def state(self, job: str) -> str:
        """The state that squeue or, for a job that has left the queue, sacct gives it."""
        queued = self.output("squeue", "-h", "-j", job, "-o", "%T").split()
        return (
            queued or self.output("sacct", "-nXPj", job, "-o", "State").split() or ["UNKNOWN"]
        )[0]

    def task_processes(self) -> list[int]:
        """Process ids of this cluster's tasks and of the slurmstepd above them, by their
        environment.
        """
        mark = f"SLURM_CONF={self.configuration}".encode()
        found = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            process = int(path.split("/")[2])
            try:
                variables = Path(path).read_bytes().split(b"\0")
                step = Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"slurmstepd")
                if mark in variables and (
                    step or any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
                ):
                    found.append(process)
            except OSError:  # it ended while we looked
                continue
        return [process for process in found if process != os.getpid()]

    def _write_configuration(self) -> tuple[int, int]:
        for name in ("state", "spool", "log", "run", "munge", "database"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o700)
        base = _free_block(len(self.nodes) + 3)
        accounting, database = base + len(self.nodes) + 1, base + len(self.nodes) + 2
        values = {
            "folder": self.folder,
            "host": socket.gethostname().split(".")[0],
            "user": _user(),
            "controller": base,
            "node_ports": f"{base + 1}-{base + len(self.nodes)}",
            "accounting": accounting,
            "database": database,
            "first": FIRST_NODE,
            "last": FIRST_NODE + len(self.nodes) - 1,
            "user_signal": "SlurmctldParameters=preempt_send_user_signal"
            if self._user_signal
            else "",
        }
        self.configuration.write_text(CONFIGURATION.format(**values))
        (self.folder / "gres.conf").write_text(DEVICES.format(**values))
        secret = self.folder / "slurmdbd.conf"
        secret.touch(0o600)
        secret.write_text(ACCOUNTING.format(**values))
        return accounting, database

    def _start_munge(self) -> None:
        key = self.folder / "munge" / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        run = self.folder / "run"
        files = [
            f"--key-file={key}",
            f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid",
        ]
        logs = [
            f"--log-file={self.folder}/log/munged.log",
            f"--seed-file={self.folder}/munge/munged.seed",
        ]
        self._start(
            "munged", "munged", "--foreground", "--force", "--num-threads=4", *files, *logs
        )
        self._wait("munged", (run / "munge.sock").exists)

    def _start_accounting(self, accounting: int, database: int) -> None:
        data, run = self.folder / "database", self.folder / "run"
        install = [
            "mariadb-install-db",
            "--no-defaults",
            f"--user={_user()}",
            f"--datadir={data}",
            "--skip-name-resolve",
        ]
        made = self.run(
            *install,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            timeout_seconds=60,
        )
        if made.returncode:
            raise RuntimeError(
                f"mariadb-install-db failed:\n{made.stdout[-1000:]}{made.stderr[-1000:]}"
            )
        server = [
            "mariadbd",
            "--no-defaults",
            f"--user={_user()}",
            f"--datadir={data}",
            f"--socket={run}/database.sock",
        ]
        network = [
            f"--pid-file={run}/database.pid",
            "--bind-address=127.0.0.1",
            f"--port={database}",
            "--skip-grant-tables",
        ]
        small = [
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        self._start("mariadbd", *server, *network, *small, "--innodb-lock-wait-timeout=900")
        self._wait("the database", (run / "database.sock").exists)
        self._start("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: _answers(accounting))
        self._wait(
            "the cluster's account",
            lambda: self.run("sacctmgr", "-i", "add", "cluster", "test").returncode == 0,
        )

    def _start(self, name: str, *command: str) -> None:
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            # The kernel ends a daemon when this process dies, however it dies.
            guarded = ["setpriv", "--pdeathsig", "KILL", *command]
            environment = {**os.environ, **self.environment}
            self._daemons[name] = subprocess.Popen(
                guarded, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self, what: str, ready) -> None:  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                tails = "\n".join(
                    f"{path}: {path.read_text(errors='replace')[-600:]}"
                    for path in (self.folder / "log").iterdir()
                )
                raise RuntimeError(
                    f"waiting for {what} failed; ended: {dead or 'none'}\n{tails}"
                )
            time.sleep(0.1)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_block(count: int) -> int:
    """The first of `count` neighbouring ports that nothing listens on (Slurm wants the nodes'
    ports as a range).

    Above the ports where ranks meet (launch/network.py) and below those of outgoing
    connections.
    """
    for base in range(30000 + os.getpid() % 200 * 10, 32768 - count, count):
        with ExitStack() as stack:
            try:
                for offset in range(count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base
    raise RuntimeError(f"no {count} neighbouring ports are free")


# a cluster to try things on: python tests/support/slurm_cluster.py FOLDER
if __name__ == "__main__":
    with SlurmCluster(Path(sys.argv[1])) as started:
        print(f"export SLURM_CONF={started.configuration}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})

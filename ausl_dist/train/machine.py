"""What a rank computes on, in the words of its makers: for the record of a run."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

DRIVER_FILE = Path("/proc/driver/nvidia/version")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, and where the rank has one its GPU and the version of the driver."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "driver": _driver_version() if gpu else None,
    }


def by_host(ranks: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The machines of all ranks, each host once with a GPU for each of its ranks."""
    hosts: dict[str, dict[str, Any]] = {}
    for host, machine in ranks:
        described = {name: value for name, value in machine.items() if name != "gpu"}
        entry = hosts.setdefault(host, described | {"gpus": []})
        entry["gpus"] += [machine["gpu"]] if machine["gpu"] else []
    return hosts


def _cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _driver_version(file: Path = DRIVER_FILE) -> str | None:
    """As the kernel's module says it: `NVRM version: NVIDIA … Kernel Module  580.65.06  …`."""
    if not file.is_file():
        return None
    words = file.read_text().splitlines()[0].split()
    return next((word for word in words if word[0].isdigit() and "." in word), None)

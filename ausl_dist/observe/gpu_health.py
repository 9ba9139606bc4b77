"""Whether a GPU is fit to train on, by what NVML counts and the kernel has logged.

NVML: memory errors, rows that wait to be remapped, clocks held down, temperature ─┐
kernel log: Xid (NVIDIA's numbers of a GPU's faults)
    ├──▶ what is wrong, in words
driver's version ──────────────────────────────────────────────────────────────────┘
"""

import importlib.metadata
import re
import subprocess
from collections.abc import Callable
from typing import Any

# NVIDIA, "CUDA compatibility": the oldest driver that runs a major version of CUDA.
MIN_DRIVER = {12: (525, 60), 13: (580, 65)}
DALI_WHEEL = re.compile(r"nvidia-dali-cuda(\d\d)0")

# NVIDIA, "XID errors": those that mean the hardware or its link, not the program.
SICK_XIDS = {
    48: "double-bit memory error",
    63: "row remapping recorded",
    64: "row remapping failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    92: "high rate of single-bit memory errors",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "GSP does not answer",
    120: "GSP error",
}
HOT_MARGIN = 5  # degrees Celsius below the temperature at which the card slows itself down


def problems(nvml: Any, handle: Any) -> list[str]:
    """What is wrong with one GPU, by NVML; a counter that the card has not is passed over."""
    found = []
    errors = _asked(
        nvml,
        nvml.nvmlDeviceGetTotalEccErrors,
        handle,
        nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        nvml.NVML_VOLATILE_ECC,
    )
    if errors:
        found.append(f"{errors} uncorrected memory errors since the driver was loaded")
    rows = _asked(nvml, nvml.nvmlDeviceGetRemappedRows, handle)
    if rows is not None and rows[2]:
        found.append("memory rows wait to be remapped: the GPU must be reset")
    if rows is not None and rows[3]:
        found.append("a memory row could not be remapped: the GPU must be replaced")
    reasons = _asked(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, handle) or 0
    for name, bit in {
        "too hot": nvml.nvmlClocksEventReasonHwThermalSlowdown,
        "short of power": nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    }.items():
        if reasons & bit:
            found.append(f"clocks are held down: {name}")
    heat = _asked(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    limit = _asked(
        nvml,
        nvml.nvmlDeviceGetTemperatureThreshold,
        handle,
        nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
    )
    if heat is not None and limit and heat > limit - HOT_MARGIN:
        found.append(f"{heat} degrees Celsius, it slows down at {limit}")
    return found


def xids(bus: str, log: str) -> list[str]:
    """Faults of the GPU at a PCI bus address, such as 00000000:18:00.0, in the kernel's log."""
    place = ":".join(bus.split(":")[-2:]).split(".")[0]
    pattern = re.compile(rf"NVRM: Xid \(PCI:[0-9a-f]+:{re.escape(place)}[^)]*\): (\d+)", re.I)
    numbers = {int(number) for number in pattern.findall(log)}
    return [
        f"Xid {number} ({SICK_XIDS[number]})" for number in sorted(numbers & set(SICK_XIDS))
    ]


def kernel_log() -> str:
    """What the kernel has logged; empty where this user may not read it."""
    try:
        said = subprocess.run(
            ["dmesg"], capture_output=True, text=True, timeout=20, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout if said.returncode == 0 else ""


def driver_problem(driver: str, installed: Callable[[], list[str]] | None = None) -> str | None:
    """Why DALI's wheel cannot use this driver, such as 535.104.05; None where it can."""
    names = (installed or _packages)()
    wheels = [match for name in names if (match := DALI_WHEEL.fullmatch(name))]
    for wheel in wheels:
        least = MIN_DRIVER.get(int(wheel[1]))
        version = tuple(int(part) for part in driver.split(".")[:2])
        if least is not None and version < least:
            return (
                f"driver {driver} is older than {least[0]}.{least[1]}, which {wheel[0]} needs: "
                "have it updated, or install the wheel of an older CUDA"
            )
    return None


def _asked(nvml: Any, question: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None


def _packages() -> list[str]:
    return [str(package.name).lower() for package in importlib.metadata.distributions()]

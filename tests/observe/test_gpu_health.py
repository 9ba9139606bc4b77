"""A sick GPU is named by what NVML and the kernel say of it; NVML is a stand-in."""

from types import SimpleNamespace
from typing import Any

import pytest

from ausl_dist.observe.gpu_health import driver_problem, problems, xids


class NvmlError(Exception):
    pass


def nvml(**answers: Any) -> Any:
    """An NVML that has nothing to complain of, but for `answers`; None where the card cannot
    tell.
    """
    usual = {"ecc": 0, "rows": (0, 0, 0, 0), "clocks": 0, "heat": 60, "limit": 90} | answers

    def ask(name: str) -> Any:
        def question(*_: object) -> Any:
            if usual[name] is None:
                raise NvmlError
            return usual[name]

        return question

    return SimpleNamespace(
        NVMLError=NvmlError,
        NVML_MEMORY_ERROR_TYPE_UNCORRECTED=1,
        NVML_VOLATILE_ECC=0,
        NVML_TEMPERATURE_GPU=0,
        NVML_TEMPERATURE_THRESHOLD_SLOWDOWN=1,
        nvmlClocksEventReasonHwThermalSlowdown=0x40,
        nvmlClocksEventReasonHwPowerBrakeSlowdown=0x80,
        nvmlDeviceGetTotalEccErrors=ask("ecc"),
        nvmlDeviceGetRemappedRows=ask("rows"),
        nvmlDeviceGetCurrentClocksEventReasons=ask("clocks"),
        nvmlDeviceGetTemperature=ask("heat"),
        nvmlDeviceGetTemperatureThreshold=ask("limit"),
    )


def test_a_healthy_card_and_one_without_counters_have_no_problems() -> None:
    assert problems(nvml(), None) == []
    assert problems(nvml(ecc=None, rows=None, clocks=None, heat=None, limit=None), None) == []


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"ecc": 3}, "3 uncorrected memory errors"),
        ({"rows": (0, 1, 1, 0)}, "must be reset"),
        ({"rows": (0, 0, 0, 1)}, "must be replaced"),
        ({"clocks": 0x40}, "too hot"),
        ({"clocks": 0x80}, "short of power"),
        ({"heat": 88}, "88 degrees"),
    ],
)
def test_what_is_wrong_is_said(answers: dict[str, Any], words: str) -> None:
    (problem,) = problems(nvml(**answers), None)
    assert words in problem


def test_faults_of_this_gpu_are_read_from_the_kernels_log() -> None:
    log = """\
[ 100.1] NVRM: Xid (PCI:0000:18:00): 79, pid=123, name=python, GPU has fallen off the bus.
[ 101.1] NVRM: Xid (PCI:0000:18:00): 31, pid=123, name=python, a fault of the program
[ 102.1] NVRM: Xid (PCI:0000:3b:00): 48, pid=124, another GPU
"""
    assert xids("00000000:18:00.0", log) == ["Xid 79 (GPU has fallen off the bus)"]
    assert xids("00000000:3B:00.0", log) == ["Xid 48 (double-bit memory error)"]
    assert xids("00000000:86:00.0", log) == []


def test_a_driver_older_than_dalis_wheel_needs_is_told() -> None:
    wheel = lambda: ["torch", "nvidia-dali-cuda130"]  # noqa: E731
    assert driver_problem("580.95.05", wheel) is None
    assert "580.65" in (driver_problem("535.104.05", wheel) or "")
    assert driver_problem("535.104.05", lambda: ["nvidia-dali-cuda120"]) is None
    assert driver_problem("535.104.05", lambda: ["torch"]) is None

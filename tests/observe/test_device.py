"""Readings of the machine must be plausible, and absent where there is nothing to read."""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ausl_dist.observe import device
from ausl_dist.observe.observer import Observer
from ausl_dist.observe.settings import ExporterSettings, ObserveSettings


def test_host_readings_are_plausible_and_a_machine_without_gpu_tells_of_none(
    tmp_path: Path,
) -> None:
    usage = device.read_usage(tmp_path, device.current_gpu())
    assert usage.host_memory_bytes is not None
    assert 1 << 20 < usage.host_memory_bytes < 1 << 40
    assert usage.disk_free_bytes is not None
    assert usage.disk_size_bytes is not None
    assert 0 < usage.disk_free_bytes <= usage.disk_size_bytes
    if not _has_gpu():
        assert usage.gpu_allocated_bytes is None


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available()


def test_the_process_started_before_now_and_not_long_ago() -> None:
    assert 0 < time.time() - device.process_start(time.time()) < 86400


def fake_gpu(monkeypatch: pytest.MonkeyPatch, nvml_error: bool = False) -> None:
    """A torch with one GPU, and an NVML that knows it, or cannot tell (a slice of a GPU)."""
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        current_device=lambda: 0,
        get_device_properties=lambda number: SimpleNamespace(total_memory=80, uuid="1234"),
        memory_allocated=lambda number: 10,
        memory_reserved=lambda number: 20,
    )

    class NVMLError(Exception):
        pass

    def decoder_use(handle: str) -> tuple[int, int]:
        assert handle == "GPU-1234"
        if nvml_error:
            raise NVMLError
        return 25, 1000

    nvml: Any = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=50),
        nvmlDeviceGetDecoderUtilization=decoder_use,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_a_gpu_is_read_as_shares_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpu(monkeypatch)
    usage = device.read_usage(tmp_path, device.current_gpu())
    assert (usage.gpu_allocated_bytes, usage.gpu_reserved_bytes, usage.gpu_total_bytes) == (
        10,
        20,
        80,
    )
    assert (usage.gpu_busy, usage.gpu_decoder_busy) == (0.5, 0.25)


def test_a_slice_of_a_gpu_that_has_no_counters_still_tells_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpu(monkeypatch, nvml_error=True)
    usage = device.read_usage(tmp_path, device.current_gpu())
    assert (usage.gpu_allocated_bytes, usage.gpu_busy) == (10, None)


def test_a_torch_that_is_half_imported_in_another_thread_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    assert device.read_usage(tmp_path, device.current_gpu()).gpu_allocated_bytes is None


def test_each_rank_reads_its_own_gpu_from_the_pulses_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's current device belongs to the thread: the pulse's own would say GPU 0 on every
    rank.
    """
    fake_gpu(monkeypatch)
    read = []
    here = threading.local()
    cuda = sys.modules["torch"].cuda
    cuda.current_device = lambda: getattr(here, "device", 0)
    cuda.memory_allocated = lambda number: read.append(number) or 10
    here.device = 3
    settings = ObserveSettings(exporter=ExporterSettings(enabled=False), console="quiet")
    with Observer(
        settings,
        run_folder=tmp_path,
        run_name="run",
        rank=3,
        world_size=1,
        attempt=1,
        start_step=0,
        total_steps=1,
    ):
        pass
    assert read
    assert set(read) == {3}

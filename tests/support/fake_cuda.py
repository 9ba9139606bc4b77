"""A stand-in for torch.cuda that writes down who called what: which thread, on which device and
stream.

Tensors stay on the CPU; moving, pinning and recording them is only written down.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch


@dataclass
class FakeStream:
    """What torch.cuda.Stream is to its users here."""

    cuda: "FakeCuda"
    device: torch.device
    name: str

    def synchronize(self) -> None:
        self.cuda.note("synchronize", self.name)

    def wait_event(self, event: "FakeEvent") -> None:
        self.cuda.note("wait_event", self.name, event.recorded_on)


@dataclass
class FakeEvent:
    """An event that has passed once it is recorded."""

    cuda: "FakeCuda"
    recorded_on: str | None = None

    def record(self, stream: FakeStream | None = None) -> None:
        self.recorded_on = (stream or self.cuda.current_stream()).name

    def synchronize(self) -> None:
        self.cuda.note("synchronize", self.recorded_on)


@dataclass
class FakeCuda:
    """The log, and each thread's device and stream."""

    log: list[tuple[object, ...]] = field(default_factory=list)
    here: threading.local = field(default_factory=threading.local)
    streams: int = 0

    def note(self, *words: object) -> None:
        self.log.append((threading.current_thread().name, *words))

    def calls(self, name: str) -> list[tuple[object, ...]]:
        return [entry for entry in self.log if entry[1] == name]

    def current_device(self) -> int:
        return getattr(self.here, "device", 0)  # as in CUDA: a new thread begins at GPU 0

    def set_device(self, device: torch.device | int) -> None:
        self.here.device = device if isinstance(device, int) else device.index
        self.note("set_device", self.here.device)

    def make_stream(self, device: torch.device | None = None) -> FakeStream:
        self.streams += 1
        index = self.current_device() if device is None else device.index
        return FakeStream(self, torch.device("cuda", index), f"side {self.streams}")

    def current_stream(self, device: object = None) -> FakeStream:
        there = getattr(self.here, "stream", None)
        return there or FakeStream(self, torch.device("cuda", self.current_device()), "default")

    @contextlib.contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        before, self.here.stream = getattr(self.here, "stream", None), stream
        try:
            yield
        finally:
            self.here.stream = before


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """torch.cuda as two GPUs would have it."""
    cuda = FakeCuda()
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "current_device": cuda.current_device,
        "set_device": cuda.set_device,
        "current_stream": cuda.current_stream,
        "stream": cuda.on,
        "Stream": cuda.make_stream,
        "Event": lambda **_: FakeEvent(cuda),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    to = torch.Tensor.to

    def moved(
        tensor: torch.Tensor, device: object, *rest: object, **options: bool
    ) -> torch.Tensor:
        if "cuda" not in str(device):
            return to(tensor, device, *rest, **options)  # type: ignore[call-overload,no-any-return]
        cuda.note("to", str(device), cuda.current_stream().name, options.get("non_blocking"))
        return tensor

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        cuda.note("pin", cuda.current_device())
        return tensor.clone()

    def recorded(tensor: torch.Tensor, stream: FakeStream) -> None:
        cuda.note("record_stream", stream.name)

    monkeypatch.setattr(torch.Tensor, "to", moved)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "record_stream", recorded)
    return cuda

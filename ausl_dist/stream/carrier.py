"""The way of a batch to its GPU: a CUDA stream of the loader's own, so that loading and
training do not wait for each other.

    assembler's thread    host tensors ──pin──copy──▶ GPU ──▶ event      on the loader's stream
    training thread       waits for the event on its own stream ──▶ Batch

Threads start on GPU 0 whatever the process has chosen, so the assembler's thread is given the
rank's device before it touches CUDA.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ausl_dist.batch import Batch


@dataclass(frozen=True)
class Sent:
    """A batch on its way: `ready` has passed when its tensors are whole."""

    batch: Batch
    ready: torch.cuda.Event


class Carrier:
    """Carries the batches of one loader to one GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, this thread works on the rank's GPU and on the loader's stream."""
        torch.cuda.set_device(self.device)
        with torch.cuda.stream(self.stream):
            yield

    def send(self, batch: Batch) -> Sent:
        """Begin to move a batch; called inside `entered`.

        Copies run beside the training only from pinned memory. The pinned copies may be let go
        of at once: torch's host allocator keeps them until the stream has passed.
        """
        moved = batch.map(self._pinned).to(self.device)
        ready = torch.cuda.Event()
        ready.record(self.stream)
        return Sent(moved, ready)

    def receive(self, sent: Sent) -> Batch:
        """The batch, for work on the calling thread's current stream; the host does not wait."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(sent.ready)
        # They were allocated on the loader's stream: without this their memory could be given
        # to the next batch while training still reads it.
        for tensor in sent.batch.tensors():
            tensor.record_stream(current)
        return sent.batch

    @staticmethod
    def _pinned(tensor: Tensor) -> Tensor:
        return tensor if tensor.is_cuda else tensor.pin_memory()

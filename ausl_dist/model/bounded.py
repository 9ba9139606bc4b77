"""A network of somebody else's choice is built only as far as memory allows.

A name of a few letters can ask for billions of weights. Each tensor is counted as it becomes
part of a module, before it is filled: memory that was not written to is not taken yet.
"""

import contextlib
import threading
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)


class TooManyWeights(ValueError):
    """A network would hold more numbers than it may."""


@contextlib.contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Modules that this thread builds inside the block may hold so many numbers in all, weights
    and buffers; TooManyWeights where they would hold more.
    """
    held, thread = 0, threading.get_ident()

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal held
        if tensor is None or threading.get_ident() != thread:
            return
        held += tensor.numel()
        if held > numbers:
            raise TooManyWeights(
                f"the network would hold more than {numbers:,} numbers: the weights are of a "
                "smaller one"
            )

    with contextlib.ExitStack() as hooks:
        for register in (
            register_module_parameter_registration_hook,
            register_module_buffer_registration_hook,
        ):
            hooks.callback(register(count).remove)
        yield

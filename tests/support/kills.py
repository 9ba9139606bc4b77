"""A kill at a chosen write, for tests of work that must go on after it."""

from collections.abc import Callable
from typing import Any


class Killed(Exception):
    """The process would have died here."""


class KillAt:
    """Functions wrapped by `before` count their calls together; the one after `count` calls is
    not made, but raises Killed.
    """

    def __init__(self, count: int) -> None:
        self._left = count

    def before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object, **kwargs: object) -> object:
            self._left -= 1
            if self._left == -1:
                raise Killed
            return real(*args, **kwargs)

        return call

"""What a check found, one row of doctor's table each; used on this machine and on the nodes."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ausl_dist.settings import SettingsError


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    name: str
    good: bool
    text: str  # what was found, or what is wrong and what to do


class Unchecked(Exception):
    """A check that has no meaning here; the reason is its message."""


def run_checks(checks: Iterable[tuple[str, Callable[[], str]]]) -> Iterable[Finding]:
    """Run checks in order; one that fails by the same reason as an earlier one only names that
    one.
    """
    reasons: dict[str, str] = {}
    for name, check in checks:
        started = time.monotonic()
        try:
            text = check()
        except Unchecked as why:
            text = f"not checked: {why}"
        except Exception as error:  # noqa: BLE001 - whatever a check meets is its finding
            reason = _sentence(error)
            first = reasons.setdefault(reason, name)
            yield Finding(
                name, False, reason if first == name else f"needs `{first}` to be mended first"
            )
            continue
        yield Finding(name, True, f"{text} ({time.monotonic() - started:.1f} s)")


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return (
        text
        if isinstance(error, ValueError | OSError | SettingsError)
        else f"{type(error).__name__}: {text}"
    )

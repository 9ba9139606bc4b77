"""What a run's record says of how it was made, as one line of the card."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ausl_dist.observe.wording import counted


def trained_line(record: Mapping[str, Any]) -> str:
    """When, on what and from which code a run was made; empty where its record says nothing."""
    starts: Sequence[Mapping[str, Any]] = record.get("starts") or []
    if not starts or "time" not in starts[0]:
        return ""
    last = starts[-1]
    ended = last.get("ended")
    until = f" to {_moment(ended['time'])}" if ended else ""
    parts = [
        f"Trained from {_moment(starts[0]['time'])}{until} (UTC) "
        f"in {counted(len(starts), 'attempt')}",
        _machines(last),
        _commit(last.get("commit")),
    ]
    # The first start says what was asked for; those after it only went on.
    command = next((start["command"] for start in starts if start.get("command")), None)
    typed = f" Started by `{command}`." if command else ""
    return "; ".join(part for part in parts if part) + f".{typed}"


def _moment(unix_seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(unix_seconds))


def _machines(start: Mapping[str, Any]) -> str:
    machines = list((start.get("machines") or {}).values())
    if not machines:
        return ""
    gpus = [gpu for machine in machines for gpu in machine["gpus"]]
    drivers = sorted({machine["driver"] for machine in machines if machine["driver"]})
    names = sorted(set(gpus)) or sorted({machine["cpu"] for machine in machines})
    driver = f", driver {', '.join(drivers)}" if drivers else ""
    ranks, hosts = len(start["hosts"]), len(machines)
    return (
        f"{counted(ranks, 'rank')} on {counted(hosts, 'host')} with {', '.join(names)}{driver}"
    )


def _commit(commit: Mapping[str, Any] | None) -> str:
    if commit is None:
        return ""
    return f"commit {commit['id'][:12]}" + " with changes of its own" * bool(commit["dirty"])

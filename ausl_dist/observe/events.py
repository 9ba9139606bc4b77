"""What can happen to a run besides a step, and how it is said in words.

An event is a kind and a few fields; the kinds below have a sentence of their own, any other is
said as it comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EventKind:
    """How an event of this kind is spoken of; trouble is said by every rank, the rest by rank 0
    alone.
    """

    sentence: str
    trouble: bool = True


KINDS: Mapping[str, EventKind] = {
    "started": EventKind(
        "attempt {attempt} starts at step {step} on {world_size} ranks", trouble=False
    ),
    "ended": EventKind("ended at step {step}", trouble=False),
    "failed": EventKind("failed at step {step}: {error}"),
    "checkpoint": EventKind("saved step {step} in {seconds:.1f} s", trouble=False),
    "checkpoint_damaged": EventKind(
        "checkpoint {path} is damaged ({reason}), an older one is used"
    ),
    "skipped": EventKind("step {step}: loss or gradient is not finite, the batch was left out"),
    "rewind": EventKind(
        "goes back from step {step} to the checkpoint at step {to_step}: {reason}"
    ),
    "upload_failed": EventKind("the copy of step {step} to object storage failed: {reason}"),
    "online_failed": EventKind("{checkpoint} could not be evaluated, see {log}"),
    "corrupt": EventKind("could not use some clips: {clips} more ({reason})"),
    "collapse": EventKind("objective {objective} has collapsed"),
    "attempt_ended": EventKind("attempt {attempt} ended: {why}"),
    "signal": EventKind("was asked to stop ({signal}), saves and ends", trouble=False),
    "profile": EventKind("profiled {steps} steps from step {step} on: {path}", trouble=False),
}


def is_trouble(kind: str) -> bool:
    """Whether everybody should hear of it; what nobody has foreseen is trouble."""
    return KINDS[kind].trouble if kind in KINDS else True


def in_words(kind: str, fields: Mapping[str, Any]) -> str:
    """One event as a clause without its subject."""
    if kind in KINDS:
        try:
            return KINDS[kind].sentence.format_map(fields)
        except (KeyError, ValueError, TypeError):
            pass  # an event with other fields than foreseen is still told, below
    details = ", ".join(
        f"{name} {value}"
        for name, value in fields.items()
        if name not in ("kind", "time", "rank", "node", "attempt")
    )
    return f"{kind}: {details}" if details else kind

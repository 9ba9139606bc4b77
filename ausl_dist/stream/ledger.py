"""Clips that are missing from a run: each is written down with its reason and counted, and too
many stop the run.

RUN_FOLDER/ledger.jsonl   one line for each slot of weight 0: step, rank, corpus, shard, clip,
epoch, reason, detail
"""

import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from ausl_dist.json_lines import append_json_line
from ausl_dist.shards.reader import StoredClip
from ausl_dist.stream.settings import REASONS, Budgets

MIN_CLIPS_JUDGED = 1000  # a share of fewer clips says little
MAX_DETAIL = 500


class MissingClip(Exception):
    """A clip that cannot be used, and why: `reason` is one of settings.REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS
        super().__init__(detail)
        self.reason = reason


Clips = list[StoredClip | MissingClip]  # of a chunk, in order


class BudgetPassed(ValueError):
    """More clips are missing for one reason than the settings allow."""


@dataclass(frozen=True)
class Missing:
    """One line of the ledger."""

    step: int
    rank: int
    corpus: str
    place: str  # shard and bytes of the chunk
    clip: int  # which clip of the chunk
    epoch: int
    reason: str
    detail: str


class Ledger:
    """Writes the lines and keeps the budgets of one rank."""

    def __init__(self, path: Path, budgets: Budgets) -> None:
        self._path, self._budgets = path, budgets
        self._lock = threading.Lock()
        self.missing: Counter[str] = Counter()
        self.clips = 0  # slots seen, missing ones included

    def add(self, clips: int, missing: list[Missing]) -> None:
        """Note a batch of `clips` slots; raises BudgetPassed, naming the newest lines, when a
        budget is passed.
        """
        with self._lock:
            self.clips += clips
            for entry in missing:
                append_json_line(
                    self._path, {**asdict(entry), "detail": entry.detail[:MAX_DETAIL]}
                )
                self.missing[entry.reason] += 1
            judged = max(self.clips, MIN_CLIPS_JUDGED)
            for reason in {entry.reason for entry in missing}:
                allowed = getattr(self._budgets, reason) * judged
                if self.missing[reason] > allowed:
                    newest = [entry for entry in missing if entry.reason == reason][-3:]
                    lines = "; ".join(
                        f"{entry.corpus}/{entry.place}, clip {entry.clip}: "
                        f"{entry.detail[:MAX_DETAIL]}"
                        for entry in newest
                    )
                    raise BudgetPassed(
                        f"{self.missing[reason]} of {self.clips} clips are missing for reason "
                        f"'{reason}', the budget allows {allowed:g}: "
                        f"{lines}. All are listed in {self._path}; mend the corpus, "
                        f"or raise data.budgets.{reason}"
                    )


def telling_line(error: Exception | str) -> str:
    """The line of an error that says why: DALI puts it behind the names of operator and file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    skipped = ("critical error in pipeline", 'file "', "error in ")
    telling = [line for line in lines if not line.lower().startswith(skipped)]
    for word in ("support", "unable", "failed", "cannot", "invalid"):
        for line in telling:
            if word in line.lower():
                # without the place in DALI's own source
                return line.partition("] ")[2][:300] if line.startswith("[/") else line[:300]
    return (telling or lines or [type(error).__name__])[0][:300]

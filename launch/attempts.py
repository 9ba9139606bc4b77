"""What the ranks of one attempt tell each other through the run folder, so that all of them
draw the same conclusion.

    RUN/supervision/NAME/rank-00003.json   how rank 3 ended
    RUN/supervision/NAME/failed            some rank failed: the others end too
    RUN/supervision/NAME/decision.json     what follows; made exactly once
    RUN/supervision/history.jsonl          one line per attempt that has ended

NAME is JOB-RESTART-AGAIN: the scheduler's job, its count of requeues, and the starts within one
requeue: all ranks know it without asking each other. The attempt's number, the one that training
has claimed or would have claimed next (train/fence.py), is what people are told.
"""

import dataclasses
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ausl_dist.files import read_json, write_json
from ausl_dist.json_lines import LineWriter, read_log_lines
from ausl_dist.observe.history import last_metrics
from ausl_dist.run_folder import ATTEMPTS_FILE, SUPERVISION_FOLDER
from ausl_dist.train import fence
from launch.verdict import Decision, Ended, RankReport

MAX_BYTES = 1 << 20


class Attempt:
    """One start of all ranks; the same folder for each of them."""

    def __init__(self, run_folder: Path, name: str) -> None:
        self.run_folder, self.name = Path(run_folder), name
        self.number = fence.newest(self.run_folder) + 1
        self.folder = self.run_folder / SUPERVISION_FOLDER / name
        self.folder.mkdir(parents=True, exist_ok=True)

    def report(self, report: RankReport) -> None:
        write_json(self.folder / f"rank-{report.rank:05d}.json", dataclasses.asdict(report))

    def reports(self) -> list[RankReport]:
        return [
            RankReport(**read_json(path, MAX_BYTES))
            for path in sorted(self.folder.glob("rank-*.json"))
        ]

    def announce_failure(self) -> None:
        (self.folder / "failed").touch()

    def failure_announced(self) -> bool:
        return (self.folder / "failed").exists()

    def decide_once(self, decision: Decision) -> bool:
        """Make `decision` that of the whole attempt; False where another rank was faster."""
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        temporary.write_text(json.dumps(dataclasses.asdict(decision)))
        try:
            # fails where one is there, and never shows a part
            os.link(temporary, self.folder / "decision.json")
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def decision(self) -> Decision | None:
        path = self.folder / "decision.json"
        if not path.exists():
            return None
        values = read_json(path, MAX_BYTES)
        return Decision(**{**values, "exclude": tuple(values["exclude"])})


def append_history(attempt: Attempt, now: Ended, decision: Decision) -> None:
    """Add an ended attempt to the run's history."""
    line = {
        "time": time.time(),
        "attempt": attempt.number,
        "start": attempt.name,
        **dataclasses.asdict(now),
        "action": decision.action,
        "why": decision.why,
    }
    writer = LineWriter(attempt.run_folder / ATTEMPTS_FILE)
    writer.write({**line, "excluded": list(decision.exclude)})
    writer.close()


def read_history(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of the run's history, oldest first; empty before the first attempt has ended."""
    return list(read_log_lines(Path(run_folder) / ATTEMPTS_FILE))


def ended(line: Mapping[str, Any]) -> Ended:
    """One line of the history as the rules of verdict.py read it."""
    return Ended(**{field.name: line[field.name] for field in dataclasses.fields(Ended)})


def excluded_hosts(history: list[dict[str, Any]]) -> list[str]:
    """The hosts that the newest attempts were kept away from."""
    return next((line["excluded"] for line in reversed(history) if line["excluded"]), [])


def last_step(run_folder: Path) -> int:
    """The last step that was logged; 0 before the first."""
    line = last_metrics(run_folder)
    return int(line["step"]) if line else 0

"""A stand-in for `python -m ausl_dist.train` in tests of the launcher alone: counts to STEPS
with the other ranks, saves, obeys signals.

Reads RUN/standin.json: {"steps", "step_seconds", "save_every", "faults": [{"rank", "step",
"kind", "times"}]}; kinds are kill, stop (hangs) and error. Each step waits for all ranks, as a
collective does, for at most COLLECTIVE_SECONDS.
"""

import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path

from ausl_dist.files import write_atomically
from ausl_dist.json_lines import append_json_line
from ausl_dist.run_folder import (
    MANIFEST_FILE,
    checkpoint_folder,
    manifest_text,
    newest_whole_step,
)

RUN = Path(sys.argv[1])
RANK, RANKS = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
COLLECTIVE_SECONDS = 8.0
told: list[int] = []


def main() -> int:
    settings = json.loads((RUN / "standin.json").read_text())
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: told.append(number))
    meeting = RUN / "meeting" / os.environ["MASTER_PORT"]
    meeting.mkdir(parents=True, exist_ok=True)
    step = newest_whole_step(RUN)
    print(f"rank {RANK} starts at step {step}", flush=True)
    while step < settings["steps"]:
        stop = meet(meeting, step)
        if stop:
            save(step)
            return 75
        time.sleep(settings["step_seconds"])
        step += 1
        for number, fault in enumerate(settings.get("faults", [])):
            inject(number, fault, step)
        if RANK == 0:
            append_json_line(RUN / "metrics.jsonl", {"step": step, "loss": 1 / step})
        if step % settings["save_every"] == 0:
            save(step)
    meet(meeting, step)
    save(step)
    return 0


def meet(folder: Path, step: int) -> bool:
    """Wait for every rank to reach this step; returns whether any of them was told to stop, the
    same on all ranks.
    """
    (folder / f".{RANK}.tmp").write_text(str(bool(told)))
    os.replace(folder / f".{RANK}.tmp", folder / f"{step}.{RANK}")
    deadline = time.monotonic() + COLLECTIVE_SECONDS + (20 if not step else 0)
    while True:
        there = [folder / f"{step}.{rank}" for rank in range(RANKS)]
        if all(path.exists() for path in there):
            return any(path.read_text() == "True" for path in there)
        if time.monotonic() > deadline:
            raise TimeoutError("Timed out waiting for the other ranks")
        time.sleep(0.01)


def save(step: int) -> None:
    if RANK == 0:
        write_atomically(checkpoint_folder(RUN, step) / MANIFEST_FILE, manifest_text(step, {}))


def inject(number: int, fault: dict, step: int) -> None:
    if fault["rank"] != RANK or step != fault["step"]:
        return
    done = len(list(RUN.glob(f"fault-{number}-*")))
    if done >= fault.get("times", 1):
        return
    (RUN / f"fault-{number}-{done}").touch()
    if fault["kind"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault["kind"] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    raise RuntimeError(f"broken on purpose at step {step}")


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())

"""A torch profiler trace and a memory snapshot of the next few steps of one rank, when somebody
asks.

    touch RUN_FOLDER/profile             a few steps of rank 0, as the settings have it
    echo "3 20" > RUN_FOLDER/profile     20 steps of rank 3

The result lies in RUN_FOLDER/profiles/step-00000120-rank-00003/: trace.json.gz
(chrome://tracing, Perfetto), operators.txt, and on a GPU memory.pickle
(pytorch.org/memory_viz).
"""

from pathlib import Path
from typing import Any

from ausl_dist.observe.settings import ProfileSettings
from ausl_dist.run_folder import PROFILES_FOLDER

REQUEST_FILE = "profile"
MAX_STEPS = 1000


class Profiler:
    """Started and stopped at the steps' boundaries by `step`; without a request that is one
    comparison.
    """

    def __init__(self, settings: ProfileSettings, run_folder: Path, rank: int) -> None:
        self._settings = settings
        self._run_folder = run_folder
        self._rank = rank
        self._steps = self._steps_left = 0
        self._asked = 0  # steps to profile, set by the thread that looks for requests
        self._first_step = 0
        self._profile: Any = None

    def look_for_request(self) -> str:
        """Take a request for this rank, if there is one; called now and then from another
        thread.

        Returns what is wrong with it.
        """
        path = self._run_folder / REQUEST_FILE
        if not path.exists():
            return ""
        words = path.read_bytes()[:100].decode("utf-8", "replace").split()
        numbers = [int(word) for word in words if word.isdigit()]
        if (
            len(numbers) != len(words)
            or len(words) > 2
            or not all(0 < steps <= MAX_STEPS for steps in numbers[1:])
        ):
            if self._rank != 0:
                return ""
            path.unlink(missing_ok=True)
            return (
                f"profile request {' '.join(words)!r} is not understood: "
                f"write `RANK STEPS`, with at most {MAX_STEPS} steps, or nothing"
            )
        rank = numbers[0] if numbers else self._settings.rank
        if rank == self._rank:
            path.unlink(missing_ok=True)
            self._asked = numbers[1] if len(numbers) > 1 else self._settings.steps
        return ""

    def step(self, step: int) -> dict[str, Any] | None:
        """Step `step` has ended; returns the fields of a `profile` event when a trace has been
        written.
        """
        if self._profile is not None:
            self._steps_left -= 1
            return self._finish() if self._steps_left == 0 else None
        if step + 1 == self._settings.at_step and self._rank == self._settings.rank:
            self._asked = self._settings.steps
        if self._asked:
            self._begin(step + 1)
        return None

    def close(self) -> dict[str, Any] | None:
        """Write what there is of a trace that the end of the run has cut short."""
        return self._finish() if self._profile is not None else None

    def _begin(self, step: int) -> None:
        import torch
        from torch.profiler import ProfilerActivity, profile

        self._first_step = step
        self._steps = self._steps_left = self._asked
        self._asked = 0
        activities = [
            ProfilerActivity.CPU,
            *([ProfilerActivity.CUDA] if torch.cuda.is_available() else []),
        ]
        if torch.cuda.is_available():
            torch.cuda.memory._record_memory_history(max_entries=100_000)
        self._profile = profile(activities=activities, record_shapes=True, profile_memory=True)
        self._profile.start()

    def _finish(self) -> dict[str, Any]:
        import torch

        profile, self._profile = self._profile, None
        profile.stop()
        folder = (
            self._run_folder
            / PROFILES_FOLDER
            / f"step-{self._first_step:08d}-rank-{self._rank:05d}"
        )
        folder.mkdir(parents=True, exist_ok=True)
        profile.export_chrome_trace(str(folder / "trace.json.gz"))
        order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        (folder / "operators.txt").write_text(
            profile.key_averages().table(sort_by=order, row_limit=100)
        )
        if torch.cuda.is_available():
            torch.cuda.memory._dump_snapshot(str(folder / "memory.pickle"))
            torch.cuda.memory._record_memory_history(enabled=None)
        return {
            "step": self._first_step,
            "steps": self._steps - self._steps_left,
            "path": str(folder.relative_to(self._run_folder)),
        }

"""The run folder: every name in it, and which of its checkpoints can be relied on. Needs no
torch.

    RUN/config.yaml              the resolved config: all that decides what is computed
    RUN/cluster.yaml             where it runs; may change from one attempt to the next
    RUN/record.json              code, packages, machines, every start and every rewind
    RUN/metrics.jsonl            a line a step; RUN/events/*.jsonl what happened besides steps
    RUN/ledger.jsonl             a line for each clip that was missing
    RUN/online.jsonl             a line for each checkpoint that was evaluated during training
    RUN/ranks/*.json             what each rank last said of itself
    RUN/fence/*.json             a marker for each attempt: only the newest may write
    RUN/supervision/             how each attempt ended, and what was decided
    RUN/logs/                    what processes printed
    RUN/checkpoints/step-00000100/
        manifest.json            size and SHA-256 of every file beside it, and of itself
        ...                      written by train/checkpoint.py

Attempts at a run are numbered from FIRST_ATTEMPT on, in all of these files, in what is printed
and in the labels of metrics: train/fence.py hands the numbers out.

A checkpoint is *complete* when its folder has its final name, and *whole* when every byte is
what the manifest says. Whoever reads one takes it from here, checked.
"""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ausl_dist.files import read_json, sha256_of
from ausl_dist.json_lines import read_log_lines

CONFIG_FILE, CLUSTER_FILE, RECORD_FILE = "config.yaml", "cluster.yaml", "record.json"
METRICS_FILE, LEDGER_FILE, ONLINE_FILE = "metrics.jsonl", "ledger.jsonl", "online.jsonl"
BAD_BATCHES_FILE = "bad_batches.jsonl"  # the clips of steps that looked wrong
FLOPS_FILE = "flops.json"  # of training on one clip, counted when the run first began
EVENTS_FOLDER, RANKS_FOLDER, LOGS_FOLDER = "events", "ranks", "logs"
CHECKPOINTS_FOLDER, PROFILES_FOLDER = "checkpoints", "profiles"
FENCE_FOLDER = "fence"  # a marker for each attempt: only the newest may write
SUPERVISION_FOLDER = "supervision"  # how each attempt ended, and what was decided
ATTEMPTS_FILE = f"{SUPERVISION_FOLDER}/history.jsonl"  # a line for each attempt that has ended
SUBMISSIONS_FILE = "slurm/submissions.jsonl"
FIRST_ATTEMPT = 1
DONE = "done"  # how a start ended, in record.json, where no step is left

SUMS_FILE = "SHA256SUMS"  # of a bundle
MANIFEST_FILE, STATE_FILE, BUFFERS_FILE = "manifest.json", "state.json", "buffers.safetensors"
BACKBONE_FILE, TEACHER_FILE = "backbone.safetensors", "teacher.safetensors"
OBJECTIVES_FILE = "objectives.safetensors"
WEIGHT_FILES = (BACKBONE_FILE, TEACHER_FILE, OBJECTIVES_FILE)
CHECKPOINT_FORMAT = 1

MAIN_SCORES = (
    "probe_icc",
    "probe_f1",
)  # of the online probe: intensity, occurrence; higher is better
STEP_NAME = re.compile(r"step-(\d{8,18})")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")  # no folder, nothing hidden
MAX_FILE_BYTES = 1 << 50
log = logging.getLogger(__name__)


# --- names


def checkpoint_name(step: int) -> str:
    """The name of the checkpoint after `step` steps."""
    return f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """Steps done at a checkpoint, by its name; ValueError where that is no checkpoint's name."""
    match = STEP_NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is not named like a checkpoint (step-00000100)")
    return int(match[1])


def checkpoint_folder(run_folder: Path | str, step: int) -> Path:
    """Where the checkpoint after `step` steps lies, whether or not it is there."""
    return Path(run_folder) / CHECKPOINTS_FOLDER / checkpoint_name(step)


def log_file(run_folder: Path | str, rank: int) -> Path:
    """What a rank prints."""
    return Path(run_folder) / LOGS_FOLDER / f"rank-{rank}.log"


# --- checkpoints


def complete_checkpoints(run_folder: Path | str) -> list[Path]:
    """All checkpoints that were renamed into place, oldest first; their content is not looked
    at.
    """
    folder = Path(run_folder) / CHECKPOINTS_FOLDER
    if not folder.is_dir():
        return []
    named = (path for path in folder.glob("step-*") if STEP_NAME.fullmatch(path.name))
    return sorted(named, key=step_of)


def newest_whole_step(run_folder: Path | str, *, sums: bool = True) -> int:
    """The step of the newest whole checkpoint; 0 where there is none.

    `sums` as for `damage`.
    """
    newest_first = reversed(complete_checkpoints(run_folder))
    return next((step_of(path) for path in newest_first if damage(path, sums=sums) is None), 0)


def newest_whole_checkpoint(run_folder: Path | str) -> Path | None:
    """The newest checkpoint whose every byte is as written; None where the run has none yet.

    Damaged ones are passed over with an error in the log. Raises ValueError where there are
    checkpoints but none is whole: starting such a run from nothing must be somebody's decision.
    """
    folders = complete_checkpoints(run_folder)
    for folder in reversed(folders):
        if is_whole(folder):
            return folder
    if folders:
        raise ValueError(
            f"every checkpoint of {run_folder} is damaged: mend them, or move checkpoints/ away to "
            "start the run again"
        )
    return None


def is_whole(checkpoint: Path) -> bool:
    """Whether every byte is as written; what is wrong goes to the log as an error."""
    problem = damage(checkpoint)
    if problem is not None:
        log.error("checkpoint %s is damaged and passed over: %s", checkpoint, problem)
    return problem is None


def checked_checkpoint(checkpoint: Path | str) -> Path:
    """The same folder, if it holds a whole checkpoint; ValueError with the fault otherwise."""
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        raise ValueError(f"{checkpoint} is not there: give the folder of a checkpoint")
    problem = damage(checkpoint)
    if problem is not None:
        raise ValueError(f"{checkpoint} is damaged: {problem}; take another checkpoint")
    return checkpoint


def check_weights(path: Path) -> None:
    """Raise ValueError where a file lies in a checkpoint or a bundle and is not what its
    manifest or its SHA256SUMS says.

    A file of another origin has neither beside it, and is not looked at. Links are followed.
    """
    for file in dict.fromkeys((path, path.resolve())):
        if (file.parent / SUMS_FILE).is_file():
            _check_sum(file, file.parent / SUMS_FILE)
        is_whole = (file.parent / MANIFEST_FILE).is_file()
        if STEP_NAME.fullmatch(file.parent.name) or (is_whole and file.name in WEIGHT_FILES):
            _check_entry(file)


def _check_entry(path: Path) -> None:
    """Raise ValueError where a file of a checkpoint is not what the manifest says."""
    try:
        problem = _damage_of(path, *_manifest_entries(path.parent, named=False)[path.name])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{MANIFEST_FILE} cannot be read, or does not name it ({error})"
    if problem is not None:
        raise ValueError(f"{path} is of a damaged checkpoint: {problem}; take another one")


def _check_sum(path: Path, sums: Path) -> None:
    """Raise ValueError where a file of a bundle is not what the sums say."""
    line = f"{sha256_of(path)}  {path.name}"
    if line not in sums.read_text(encoding="ascii", errors="replace").splitlines():
        raise ValueError(
            f"{path} differs from what {sums} says: take another copy of the bundle"
        )


def damage(checkpoint: Path, *, sums: bool = True) -> str | None:
    """What is wrong with a checkpoint, in a sentence; None where every file has the size and
    SHA-256 of the manifest. Without `sums` sizes alone are compared: cheap, for watchers.
    """
    path = checkpoint / MANIFEST_FILE
    if not path.is_file():
        return f"{MANIFEST_FILE} is missing"
    try:
        files = _manifest_entries(checkpoint)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST_FILE} cannot be read ({error})"
    for name, (size, sha256) in files.items():
        problem = _damage_of(checkpoint / name, size, sha256 if sums else None)
        if problem is not None:
            return problem
    return None


def _damage_of(file: Path, size: int, sha256: str | None) -> str | None:
    if not file.is_file():
        return f"{file.name} is missing"
    if file.stat().st_size != size:
        return f"{file.name} has {file.stat().st_size} bytes, not {size}"
    if sha256 is not None and sha256_of(file) != sha256:
        return f"{file.name} has another SHA-256 than when it was written"
    return None


def manifest_text(step: int, files: Mapping[str, Any]) -> str:
    """The text of manifest.json; `files` maps names to {"bytes": ..., "sha256": ...}."""
    content = {"format": CHECKPOINT_FORMAT, "step": step, "files": dict(sorted(files.items()))}
    body = json.dumps(content, indent=1)
    # Its own digest stands in it too: a flipped byte in it is found as in any other file.
    whole = {**json.loads(body), "digest": hashlib.sha256(body.encode()).hexdigest()}
    return json.dumps(whole, indent=1) + "\n"


def _manifest_entries(checkpoint: Path, *, named: bool = True) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 by file name; raises where the manifest is not one of ours as written,
    or (`named`) of another step than the folder.
    """
    path = checkpoint / MANIFEST_FILE
    manifest = read_json(path)
    entries: dict[str, tuple[int, str]] = {}
    for name, entry in manifest["files"].items():
        if FILE_NAME.fullmatch(name) is None:
            raise ValueError(f"it names {name[:100]!r}, which is no file of a checkpoint")
        size, sha256 = entry["bytes"], entry["sha256"]
        if (
            type(size) is not int
            or not 0 <= size <= MAX_FILE_BYTES
            or not isinstance(sha256, str)
        ):
            raise ValueError(f"its entry for {name} is none of ours")
        entries[name] = (size, sha256)
    as_written = manifest_text(manifest["step"], manifest["files"])
    if path.read_text(encoding="utf-8") != as_written:
        raise ValueError("it is not as written")
    if named and checkpoint.name != checkpoint_name(manifest["step"]):
        raise ValueError(f"it is of step {manifest['step']}, the folder is not")
    return entries


# --- scores of the online probe


def read_scores(run_folder: Path | str) -> dict[int, dict[str, float]]:
    """The finite numbers of online.jsonl by the step of their checkpoint; of a step that was
    evaluated twice, after a resume, the later ones. Empty where nothing was evaluated.
    """
    found: dict[int, dict[str, float]] = {}
    for line in read_log_lines(Path(run_folder) / ONLINE_FILE):
        step = line.get("step")
        if type(step) is not int:
            continue
        numbers = {name: value for name, value in line.items() if name != "step"}
        found[step] = {
            name: float(value)
            for name, value in numbers.items()
            # not math.isfinite, which raises for the long integers that JSON allows
            if isinstance(value, int | float) and abs(value) <= sys.float_info.max
        }
    return found


def main_scores(run_folder: Path | str) -> tuple[str, dict[int, float]]:
    """The score that checkpoints are compared by, and its value by step: intensity where the
    run has any, else occurrence.
    """
    scores = read_scores(run_folder)
    name = next((name for name in MAIN_SCORES if any(name in s for s in scores.values())), "")
    return name or MAIN_SCORES[0], {
        step: numbers[name] for step, numbers in scores.items() if name in numbers
    }


def steps_by_score(run_folder: Path | str, among: set[int]) -> list[int]:
    """Of the steps `among`, those with a score of the online probe, best first; of equal ones
    the later.
    """
    _, scores = main_scores(run_folder)
    scored = [step for step in among if step in scores]
    return sorted(scored, key=lambda step: (scores[step], step), reverse=True)

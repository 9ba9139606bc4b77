"""Build a corpus on a SLURM cluster: one array element for each part, and a last job that sees
the whole to its end.

    python -m launch corpus --cluster mysite --parts 64 -- /videos --out s3://bucket/faces
        │
        ├─▶ array: tools.build_corpus /videos --out ... --part 0/64, 1/64, ...   (the last to end joins
        the parts)
        └─▶ afterwards: --part 0/64 once more, which does nothing, or joins what a kill has left unjoined

The builder remembers what is done: a requeued part goes on, and after a failure the same
command is typed again.
"""

import hashlib
import time
from dataclasses import replace
from pathlib import Path

from ausl_dist.settings import SettingsError
from launch import slurm
from launch.cluster import SlurmCluster

FOLDER = Path("runs") / "corpus"
OWN_OPTIONS = ("--part", "--workers")


def part_commands(words: list[str], parts: int, workers: int) -> list[list[str]]:
    """The builder's command line for each part; `words` are its inputs and options."""
    if parts < 1:
        raise SettingsError(f"--parts {parts}: at least one part is needed")
    if "--out" not in words[:-1]:
        raise SettingsError(
            "say where the corpus goes, after two dashes: python -m launch corpus --parts 16 -- "
            "INPUT --out s3://bucket/name"
        )
    taken = [word for word in words if word.split("=")[0] in OWN_OPTIONS]
    if taken:
        raise SettingsError(
            f"{taken[0]} is set for each part: use --parts, and cluster.cpus_per_rank for the "
            "workers"
        )
    # The job's folder is its snapshot of the code (whence -m): no path may be relative to here.
    out = words[words.index("--out") + 1]
    is_path = [Path(word).exists() or (word == out and "://" not in word) for word in words]
    absolute = [
        str(Path(word).resolve()) if path else word
        for word, path in zip(words, is_path, strict=True)
    ]
    builder = ["python", "-m", "tools.build_corpus", *absolute, "--workers", str(workers)]
    return [[*builder, "--part", f"{part}/{parts}"] for part in range(parts)]


def submit_build(
    words: list[str], cluster: SlurmCluster, parts: int, at_once: int
) -> tuple[list[str], str]:
    """Submit the array and the job after it; returns the array's ids and the last job's."""
    one_task = replace(cluster, nodes=1, ranks_per_node=1, gpus_per_node=0, exclusive=False)
    commands = part_commands(words, parts, one_task.cpus_per_rank)
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]
    folder = (FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{key}").resolve()
    jobs = [slurm.CommandJob(command) for command in commands]
    ids = slurm.submit(jobs, folder, one_task, "corpus", at_once=at_once)
    whole_array = ids[0].split("_")[0]
    (last,) = slurm.submit(
        [jobs[0]], folder / "last", one_task, "corpus-last", dependency=f"afterok:{whole_array}"
    )
    return ids, last

"""Say what is in a checkpoint, and whether it is whole.

python -m tools.inspect_checkpoint RUN_FOLDER            all checkpoints of a run
python -m tools.inspect_checkpoint RUN_FOLDER/checkpoints/step-00001000
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

from ausl_dist import command
from ausl_dist.files import as_ours, read_json
from ausl_dist.run_folder import MANIFEST_FILE, STATE_FILE, complete_checkpoints, damage


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="a run folder, or one checkpoint")
    path: Path = parser.parse_args().path
    checkpoints = (
        [path]
        if (path / MANIFEST_FILE).exists() or path.name.startswith("step-")
        else complete_checkpoints(path)
    )
    if not checkpoints:
        raise ValueError(
            f"{path} is no checkpoint, and holds none: give a run folder or one of its "
            "checkpoints/step-NNNNNNNN"
        )
    damaged = [checkpoint for checkpoint in checkpoints if not tell(checkpoint)]
    return 1 if damaged else 0


def tell(checkpoint: Path) -> bool:
    """Print what is in a checkpoint; False where it is damaged, which is said."""
    problem = damage(checkpoint)
    if problem is not None:
        print(f"{checkpoint.name}  DAMAGED: {problem}")
        return False
    state, manifest = read_json(checkpoint / STATE_FILE), read_json(checkpoint / MANIFEST_FILE)
    with as_ours(checkpoint / STATE_FILE):
        _tell_whole(checkpoint, state, manifest)
    return True


def _tell_whole(checkpoint: Path, state: dict[str, Any], manifest: dict[str, Any]) -> None:
    weights = sum(math.prod(shape) for shape in state["parameters"].values())
    total = sum(entry["bytes"] for entry in manifest["files"].values())
    written = time.strftime(
        "%Y-%m-%d %H:%M:%S", time.localtime((checkpoint / MANIFEST_FILE).stat().st_mtime)
    )
    print(
        f"{checkpoint.name}  whole, {total / 2**20:.1f} MiB in {len(manifest['files'])} files, "
        f"written {written}"
    )
    print(
        f"  after {state['step']} steps of attempt {state['attempt']} on {state['world_size']} "
        f"ranks, seed {state['seed']}"
    )
    print(
        f"  {weights / 1e6:.2f} M weights in {len(state['parameters'])} tensors, "
        f"optimizer {state['optimizer_kind']}"
    )
    print(
        f"  order version {state['order_version']}, {state['lanes']} lanes of "
        f"{state['clips_per_lane']} clips a step"
    )


if __name__ == "__main__":
    command.run(main)

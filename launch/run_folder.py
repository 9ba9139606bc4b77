"""The run folder at the moment of launch: what was asked for, written once, so that later edits cannot change a queued job.

    RUN/config.yaml   the resolved config: all that decides what is computed
    RUN/cluster.yaml  where it runs; may change from one attempt to the next
    RUN/logs/         one file per rank
"""

from pathlib import Path
from typing import Any

from ausl_dist.files import write_atomically
from ausl_dist.settings import SettingsError
from launch.compose import Composed


def prepare(composed: Composed) -> Path:
    """Make (or go on with) the run folder named by `folder`; returns it.

    A folder that holds another config is refused: two different runs must not share checkpoints.
    """
    folder = Path(composed.run["folder"]).expanduser().resolve()
    config = _to_yaml({**composed.run, "folder": str(folder)})
    path = folder / "config.yaml"
    if path.exists() and path.read_text() != config:
        changed = _first_difference(path.read_text(), config)
        raise SettingsError(
            f"{folder} holds a run with another config ({changed}); go on with that one by `python -m launch resume {folder}`, "
            "or give this one its own folder=..."
        )
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    write_atomically(path, config)
    write_atomically(folder / "cluster.yaml", _to_yaml(composed.cluster))
    return folder


def read_cluster(folder: Path) -> dict[str, Any]:
    """What cluster.yaml of a run folder says; a sentence where the folder is no run."""
    import yaml

    path = Path(folder) / "cluster.yaml"
    if not path.exists():
        raise SettingsError(f"{folder} is not a run folder (no cluster.yaml in it); `python -m launch run folder={folder}` makes one")
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    return values


def _to_yaml(values: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _first_difference(old: str, new: str) -> str:
    pairs = zip([*old.splitlines(), ""], [*new.splitlines(), ""], strict=False)
    before, after = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))
    return f"there `{before}`, here `{after}`"

"""The run folder at the moment of launch: what was asked for, written once, so that later edits
cannot change a queued job.

RUN/config.yaml   the resolved config: all that decides what is computed
RUN/cluster.yaml  where it runs; may change from one attempt to the next
RUN/logs/         one file per rank
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ausl_dist.addresses import masked, refuse_secrets
from ausl_dist.files import as_ours, read_json, write_atomically
from ausl_dist.run_folder import (
    CLUSTER_FILE,
    CONFIG_FILE,
    DONE,
    LOGS_FOLDER,
    RECORD_FILE,
    newest_whole_step,
)
from ausl_dist.settings import SettingsError
from ausl_dist.train.config_text import load_config
from launch.cluster import read_settings
from launch.compose import Composed, complete_run, compose_cluster
from launch.global_batch import check_ranks

STORE_SECONDS = 10.0  # for a store to say whether a bucket is there


def prepare(composed: Composed) -> Path:
    """Make (or go on with) the run folder named by `folder`; returns it.

    A folder that holds another config is refused: two different runs must not share
    checkpoints.
    """
    check_packages(composed.run)
    check_buckets(composed.run)
    check_corpora(composed)
    folder = Path(composed.run["folder"]).expanduser().resolve()
    config = _to_yaml({**composed.run, "folder": str(folder)})
    path = folder / CONFIG_FILE
    if path.exists() and (before := _whole(path)) != config:
        changed = _first_difference(before, config)
        raise SettingsError(
            f"{folder} holds a run with another config ({changed}); go on with that one by `python "
            f"-m launch resume {folder}`, "
            "or give this one its own folder=..."
        )
    (folder / LOGS_FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(path, config)
    write_atomically(folder / CLUSTER_FILE, _to_yaml(composed.cluster))
    return folder


def check_packages(run: Mapping[str, Any]) -> None:
    """Raise ValueError where a setting needs a package that is not installed here, where the
    run's own environment is made.
    """
    from ausl_dist.observe.settings import TrackerSettings
    from ausl_dist.observe.trackers import check_trackers

    check_trackers(TrackerSettings(**run["observe"]["trackers"]))


def check_buckets(run: Mapping[str, Any]) -> None:
    """Raise FileNotFoundError where a corpus, or the copies of checkpoints, lie in a bucket that
    does not exist. A store that cannot be asked from here is said: the nodes may reach it.
    """
    urls = [corpus["url"] for corpus in run["data"]["corpora"].values()]
    urls += [run["checkpoint"]["upload"]] if run["checkpoint"]["upload"] else []
    if not any("://" in url for url in urls):
        return
    from ausl_dist.shards.retry import Retry
    from ausl_dist.shards.storage import check_bucket

    for url in urls:
        try:
            check_bucket(url, Retry(STORE_SECONDS))
        except FileNotFoundError:
            raise
        except OSError as error:
            print(f"not checked from here: {masked(str(error))}", file=sys.stderr)


def check_corpora(composed: Composed) -> None:
    """Raise ValueError where a corpus has fewer clips than lanes, and FileNotFoundError where it
    is not there. What of it only the nodes of a cluster see is left to them.
    """
    from ausl_dist.shards.index import Index
    from ausl_dist.shards.retry import Retry
    from ausl_dist.shards.storage import local_path
    from ausl_dist.stream.order import check_lanes

    data, here = composed.run["data"], composed.cluster["scheduler"] == "local"
    for name, corpus in data["corpora"].items():
        folder = local_path(corpus["url"])
        if folder is not None and not folder.exists() and not here:
            continue
        try:
            index = Index.load(corpus["url"], Retry(STORE_SECONDS))
        except FileNotFoundError:
            raise
        except OSError:
            continue  # `check_buckets` has said so
        check_lanes(name, index.num_clips, data["lanes"])


def read_cluster(folder: Path) -> dict[str, Any]:
    """What cluster.yaml of a run folder says; a sentence where the folder is no run."""
    path = Path(folder) / CLUSTER_FILE
    if not path.exists():
        raise SettingsError(
            f"{folder} is not a run folder (no cluster.yaml in it); "
            f"`python -m launch run folder={folder}` makes one"
        )
    values = load_config(path)
    if "scheduler" not in values:
        raise SettingsError(f"{path} does not say what starts the run: it names no scheduler")
    return values


def done_already(folder: Path) -> str:
    """A sentence where the run has done all of its steps and its last checkpoint is there: a
    start would load everything, and do nothing. Empty otherwise.
    """
    record = Path(folder) / RECORD_FILE
    starts = read_json(record).get("starts") if record.is_file() else None
    ended = starts[-1].get("ended") if starts else None
    if not ended or ended.get("how") != DONE:
        return ""
    steps = int(load_config(Path(folder) / CONFIG_FILE)["steps"])
    if newest_whole_step(folder, sums=False) < steps:
        return ""
    return (
        f"{folder} has done all of its {steps} steps, so nothing is started: `python -m "
        f"tools.release {folder} --out BUNDLE` releases its backbone; a longer run is one of its "
        "own, with another folder=... and steps=..."
    )


def read_name(folder: Path) -> str:
    """The name of the run in a run folder."""
    return str(load_config(Path(folder) / CONFIG_FILE).get("name", Path(folder).name))


def change_cluster(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Apply `cluster=NAME` and `cluster.KEY=VALUE` to a run folder's cluster.yaml; what is
    computed stays as it is.
    """
    from omegaconf import OmegaConf

    refuse_secrets(overrides)
    values = read_cluster(folder)
    wrong = [
        override for override in overrides if not override.startswith(("cluster=", "cluster."))
    ]
    if wrong:
        raise SettingsError(
            f"{wrong[0]}: a run goes on with its own config; "
            "only cluster=NAME and cluster.KEY=VALUE may change"
        )
    for override in overrides:
        if override.startswith("cluster="):
            values = compose_cluster(override)
    dotted = [
        override.removeprefix("cluster.")
        for override in overrides
        if override.startswith("cluster.")
    ]
    changed: Any = OmegaConf.to_container(
        OmegaConf.merge(values, OmegaConf.from_dotlist(dotted)), resolve=True
    )
    if overrides:
        _check_ranks(folder, read_settings(changed).ranks)
        write_atomically(Path(folder) / CLUSTER_FILE, _to_yaml(changed))
    return dict(changed)


def _check_ranks(folder: Path, ranks: int) -> None:
    """Refuse a number of ranks that cannot share the batches of the run in `folder`."""
    path = Path(folder) / CONFIG_FILE
    with as_ours(path):
        run = complete_run(load_config(path))
    pieces = run["engine"]["gradient_accumulation"]
    check_ranks(run["data"]["lanes"], run["data"]["clips_per_lane"], pieces, ranks)


def _whole(path: Path) -> str:
    """A stored config with the defaults of today's code for what an older code left out."""
    with as_ours(path):
        return _to_yaml(complete_run(load_config(path)))


def _to_yaml(values: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _first_difference(old: str, new: str) -> str:
    pairs = zip([*old.splitlines(), ""], [*new.splitlines(), ""], strict=False)
    before, after = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))
    return f"there `{before}`, here `{after}`"

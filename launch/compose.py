"""From command-line words to one resolved config: hydra groups in, plain mappings out.

    words ──▶ hydra: config.yaml, its groups, the experiment, the words
          ──▶ one file of `objective/` for each name in the mixture, under `objectives.NAME`
          ──▶ the defaults of dataclasses and objectives, for all that nobody has said
          ──▶ interpolations resolved, the batch cut for the ranks, every setting checked ──▶ Composed

Any word `dotted.name=value` adds the setting or replaces it. `cluster` (where it runs) is split
from the rest (what it computes), so that a run can go on elsewhere with the same config.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ausl_dist.addresses import refuse_secrets
from ausl_dist.settings import SettingsError, from_mapping, unknown, with_defaults
from launch.cluster import read_settings, with_cluster_defaults
from launch.global_batch import BatchPlan, BatchSettings, check_ranks, describe, plan_batch

# what a cluster's file says of the run itself, where it has GPUs; files and words of the run
# win
ON_GPUS = "on_gpus"
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@dataclass(frozen=True)
class Composed:
    """A resolved config: `run` is RunSettings as mappings, `cluster` says where and on how many
    ranks it runs.
    """

    run: dict[str, Any]
    cluster: dict[str, Any]
    batch: str = ""  # what a step is, in a line for people


@dataclass(frozen=True)
class Uncut:
    """A checked config whose batch is not yet cut for a number of ranks."""

    run: dict[str, Any]
    cluster: dict[str, Any]
    batch: BatchSettings
    given: dict[str, Any]  # by files and words, without defaults

    def for_ranks(self, ranks: int) -> Composed:
        """Cut the batch; SettingsError where so many ranks cannot share what is asked for."""
        plan = plan_batch(self.batch, ranks, self.run["optimizer"]["kind"])
        run = _with_batch(self.run, plan, self.given)
        data, pieces = run["data"], run["engine"]["gradient_accumulation"]
        cut = (data["lanes"], data["clips_per_lane"], pieces, ranks)
        check_ranks(*cut)
        rate = float(run["optimizer"]["learning_rate"])
        return Composed(run, self.cluster, describe(*cut, rate))


def compose(words: list[str], config_folder: Path = CONFIGS) -> Composed:
    """Compose, complete and check the config of a run from words such as `experiment=demo`,
    `optimizer.learning_rate=1e-3`, `mixture.my_task=0.5`.

    Raises SettingsError with what to type instead.
    """
    uncut = compose_uncut(words, config_folder)
    return uncut.for_ranks(read_settings(uncut.cluster).ranks)


def compose_uncut(words: list[str], config_folder: Path = CONFIGS) -> Uncut:
    """The same for whatever number of ranks."""
    refuse_secrets(words)
    given = _given(words, config_folder)
    whole = _resolved(_complete(given))
    refuse_secrets(whole)
    cluster = whole.pop("cluster")
    batch = from_mapping(BatchSettings, whole.pop("batch"), "batch")
    _check(whole)
    return Uncut(whole, cluster, batch, given)


def completed(words: list[str], config_folder: Path = CONFIGS) -> dict[str, Any]:
    """The whole config with every default, interpolations not yet resolved and nothing checked."""
    return _complete(_given(words, config_folder))


def _given(words: list[str], config_folder: Path) -> dict[str, Any]:
    """What files and words say, and nothing else."""
    words = [add_or_replace(word, config_folder) for word in words]
    # Later entries win: objectives, then the experiment, then the user's own words.
    experiment = [word for word in words if word.startswith("+experiment=")]
    own = [word for word in words if word not in experiment]
    without_objectives = [word for word in own if not _key(word).startswith("objectives.")]
    mixture = _hydra([*experiment, *without_objectives], config_folder)["mixture"]
    _check_objectives(mixture, own, config_folder)
    objectives = [f"+objective@objectives.{name}={name}" for name in mixture]
    given = _hydra([*objectives, *experiment, *own], config_folder)
    cluster = dict(given["cluster"])
    on_gpus: dict[str, Any] = cluster.pop(ON_GPUS, None) or {}
    if cluster.get("gpus_per_node"):
        given = _merged(on_gpus, given)
    # An experiment may tune an objective that a word has taken out of its mixture.
    used = {name: settings for name, settings in given["objectives"].items() if name in mixture}
    return {**given, "cluster": cluster, "objectives": used}


def _complete(given: dict[str, Any]) -> dict[str, Any]:
    apart = ("batch", "cluster")
    run = complete_run({name: value for name, value in given.items() if name not in apart})
    batch = with_defaults(BatchSettings, given.get("batch", {}))
    return {**run, "batch": batch, "cluster": with_cluster_defaults(given["cluster"])}


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above`, with what only `below` says."""
    both = dict(below)
    for name, value in above.items():
        under = below.get(name)
        if isinstance(value, dict) and isinstance(under, dict):
            value = _merged(under, value)
        both[name] = value
    return both


def _with_batch(run: dict[str, Any], plan: BatchPlan, given: dict[str, Any]) -> dict[str, Any]:
    """The run with what follows from the batch; lanes, clips a lane and pieces that somebody
    has said himself stay, and the learning rate with them.
    """
    data, engine, optimizer = dict(run["data"]), dict(run["engine"]), dict(run["optimizer"])
    if not {"lanes", "clips_per_lane"} & set(given["data"]):
        data |= {"lanes": plan.lanes, "clips_per_lane": plan.clips_per_lane}
        optimizer["learning_rate"] = float(optimizer["learning_rate"]) * plan.rate_factor
        if "gradient_accumulation" not in given["engine"]:
            engine["gradient_accumulation"] = plan.pieces
    return {**run, "data": data, "engine": engine, "optimizer": optimizer}


def compose_cluster(word: str, config_folder: Path = CONFIGS) -> dict[str, Any]:
    """Compose the `cluster` group alone, from `cluster=NAME`."""
    cluster = _hydra([word], config_folder)["cluster"]
    cluster.pop(ON_GPUS, None)
    return _resolved(with_cluster_defaults(cluster))


def choices(group: str, config_folder: Path = CONFIGS) -> list[str]:
    """The names that `group=NAME` accepts."""
    return sorted(path.stem for path in (config_folder / group).glob("*.yaml"))


def add_or_replace(word: str, config_folder: Path = CONFIGS) -> str:
    """The word as hydra wants it: a setting is added where it is not there yet, whatever the
    user put before it; a group's choice stays a choice, and `~name` takes a setting away.
    """
    key, equals, value = word.partition("=")
    if not equals or key.startswith("~") or "@" in key:
        return word
    key = key.lstrip("+")
    if key == "experiment":
        return f"+experiment={value}"
    return f"{key}={value}" if (config_folder / key).is_dir() else f"++{key}={value}"


def _hydra(words: list[str], config_folder: Path) -> dict[str, Any]:
    """What hydra makes of the words, interpolations not yet resolved."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(config_folder), version_base="1.3"):
            config: Any = OmegaConf.to_container(hydra_compose("config", words), resolve=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(
            f"the config cannot be composed: {_reason(error, words, config_folder)}"
        ) from error
    return dict(config)


def complete_run(given: dict[str, Any]) -> dict[str, Any]:
    """The run's part with the defaults of its dataclasses and of its objectives' constructors."""
    from ausl_dist.model.objective_settings import complete
    from ausl_dist.train.settings import RunSettings

    run = with_defaults(RunSettings, given)
    objectives = {
        name: complete(settings, f"objectives.{name}")
        for name, settings in run["objectives"].items()
    }
    return {**run, "objectives": objectives}


def _resolved(values: dict[str, Any]) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    try:
        resolved: Any = OmegaConf.to_container(
            OmegaConf.create(values), resolve=True, throw_on_missing=True
        )
    except MissingMandatoryValue as error:
        name = str(getattr(error, "full_key", "") or error)
        raise SettingsError(f"{name} must be set: type {name}=VALUE") from error
    except OmegaConfBaseException as error:
        raise SettingsError(f"the config cannot be composed: {_first_line(error)}") from error
    return dict(resolved)


def _check(run: dict[str, Any]) -> None:
    """Refuse a config that no rank could use before anything is written or started."""
    from ausl_dist.model.objective_settings import check_objective
    from ausl_dist.train.settings import RunSettings

    for name, settings in run["objectives"].items():
        check_objective(settings, f"objectives.{name}")
    from_mapping(RunSettings, run)


def _check_objectives(mixture: Iterable[str], words: list[str], config_folder: Path) -> None:
    """Every name in the mixture is an objective, and settings are given to those only."""
    known = choices("objective", config_folder)
    for name in mixture:
        if name not in known:
            raise unknown(name, known, "mixture")
    for word in words:
        parts = _key(word).split(".")
        if parts[0] == "objectives" and len(parts) > 1 and parts[1] not in mixture:
            near = difflib.get_close_matches(parts[1], mixture, n=1)
            advice = (
                f"did you mean objectives.{near[0]}?"
                if near
                else f"type mixture.{parts[1]}=1.0 as well"
            )
            raise SettingsError(f"{_key(word)}: the mixture has no {parts[1]}; {advice}")


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _reason(error: Exception, words: list[str], config_folder: Path) -> str:
    for word in words:
        group, _, choice = word.lstrip("+~").partition("=")
        known = choices(group, config_folder) if group else []
        if known and choice and choice not in known:
            near = difflib.get_close_matches(choice, known, n=1)
            hint = (
                f"did you mean {group}={near[0]}?"
                if near
                else f"choose from {', '.join(known)}"
            )
            return f"{group}={choice} is not there; {hint}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

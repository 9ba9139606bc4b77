"""From command-line words to one resolved config: hydra groups in, plain mappings out.

1. `configs/config.yaml` and the groups it names are composed with the experiment and the user's
   overrides;
2. the mixture names the active objectives; each name is a file of `configs/objective/`, composed
   under `objectives.NAME`, below what the experiment and the user say of it;
3. interpolations are resolved; `cluster` (where it runs) is split from the rest (what it computes),
   so that a run can go on elsewhere with the same config.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ausl_dist.settings import SettingsError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@dataclass(frozen=True)
class Composed:
    """A resolved config: `run` is RunSettings as mappings, `cluster` says where and on how many
    ranks it runs.
    """

    run: dict[str, Any]
    cluster: dict[str, Any]


def compose(overrides: list[str], config_folder: Path = CONFIGS) -> Composed:
    """Compose the config of a run from hydra overrides such as `experiment=demo`,
    `optimizer.lr=1e-3`, `+mixture.my_task=0.5`.

    Raises SettingsError with hydra's own reason and, where a group's choice is unknown, the choices
    there are.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(config_folder), version_base="1.3"):
            # Later entries win: objectives, then the experiment, then the user's own words.
            experiment = [
                f"+{o.lstrip('+')}" for o in overrides if o.lstrip("+").startswith("experiment=")
            ]
            words = [o for o in overrides if not o.lstrip("+").startswith("experiment=")]
            mixture = hydra_compose(
                "config",
                [*experiment, *(o for o in words if not o.lstrip("+~").startswith("objectives."))],
            ).mixture
            objectives = [f"+objective@objectives.{name}={name}" for name in mixture]
            config = hydra_compose("config", [*objectives, *experiment, *words])
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(
            f"the config cannot be composed: {_reason(error, overrides, config_folder)}"
        ) from error
    cluster = resolved.pop("cluster")
    return Composed(run=resolved, cluster=cluster)


def compose_cluster(override: str, config_folder: Path = CONFIGS) -> dict[str, Any]:
    """Compose the `cluster` group alone, from `cluster=NAME`."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    try:
        with initialize_config_dir(str(config_folder), version_base="1.3"):
            cluster: Any = OmegaConf.to_container(
                hydra_compose("config", [override]).cluster, resolve=True
            )
    except HydraException as error:
        raise SettingsError(
            f"the cluster cannot be composed: {_reason(error, [override], config_folder)}"
        ) from error
    return dict(cluster)


def choices(group: str, config_folder: Path = CONFIGS) -> list[str]:
    """The names that `group=NAME` accepts."""
    return sorted(path.stem for path in (config_folder / group).glob("*.yaml"))


def _reason(error: Exception, overrides: list[str], config_folder: Path) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = list(
        dict.fromkeys(line.strip() for line in f"{error}\n{cause}".splitlines() if line.strip())
    )
    # Hydra says what to type (a + more or less) in the lines after the first.
    first = (
        " ".join(lines[:3] if lines and lines[0].startswith("Could not") else lines[:1])
        or type(error).__name__
    )
    for override in overrides:
        group, _, choice = override.lstrip("+~").partition("=")
        known = choices(group, config_folder)
        if known and choice and choice not in known:
            near = difflib.get_close_matches(choice, known, n=1)
            hint = f"did you mean {group}={near[0]}?" if near else f"choose from {', '.join(known)}"
            return f"{group}={choice} is not there; {hint}"
    return first

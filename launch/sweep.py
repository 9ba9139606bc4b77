"""A sweep: hydra overrides with several values each, to one composed config for each
combination.

seed=0,1 optimizer.learning_rate=1e-3,3e-4
    ──▶ 4 configs in RUN/seed=0,learning_rate=1e-3/ and so on, submitted as one array
"""

import itertools
from pathlib import Path

from ausl_dist.settings import SettingsError
from launch.compose import Composed, compose

MAX_POINTS = 1000  # the limit of an array on most clusters


def compose_points(overrides: list[str]) -> list[Composed]:
    """Compose every combination of the overrides' values (hydra's sweep grammar: `a,b`,
    `range(...)`, `glob(...)`).

    Each has its own folder under the run's, named after the values that differ.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise SettingsError(f"cannot be read as overrides: {error}") from error
    axes = [list(item.sweep_string_iterator()) for item in parsed if item.is_sweep_override()]
    keys = [item.get_key_element() for item in parsed if item.is_sweep_override()]
    fixed = [
        item.input_line
        for item in parsed
        if not item.is_sweep_override() and item.input_line is not None
    ]
    if not axes:
        raise SettingsError(
            "nothing varies: give a setting several values, such as seed=0,1,2, "
            "or use `python -m launch submit`"
        )
    count = 1
    for axis in axes:
        count *= len(axis)
    if count > MAX_POINTS:
        raise SettingsError(
            f"{count} combinations are more than the {MAX_POINTS} of one array; split the sweep"
        )
    return [_point(fixed, keys, values) for values in itertools.product(*axes)]


def _point(fixed: list[str], keys: list[str], values: tuple[str, ...]) -> Composed:
    composed = compose(
        [*fixed, *(f"{key}={value}" for key, value in zip(keys, values, strict=True))]
    )
    name = ",".join(
        f"{key.rsplit('.', 1)[-1].lstrip('+~')}={value.replace('/', '-')}"
        for key, value in zip(keys, values, strict=True)
    )
    return Composed(
        run={**composed.run, "folder": str(Path(composed.run["folder"]) / name)},
        cluster=composed.cluster,
        batch=composed.batch,
    )

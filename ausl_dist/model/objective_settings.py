"""From an objective's mapping in a config to the objective.

    {_target_: ausl_dist.objectives.temporal_ranking.TemporalRanking, n_far: 5, view: {flip: 0.5}}
        ──▶ its class, if objectives are allowed to come from there ──▶ arguments checked ──▶ object

A config may have been made by somebody else, so `_target_` runs nothing by itself: only modules
of `ausl_dist.objectives` and of the packages named by AUSL_OBJECTIVES are imported, and only
classes are called, objectives on the outside and their parts (dataclasses such as View) inside.
"""

import difflib
import importlib
import inspect
import os
import pkgutil
from collections.abc import Mapping
from typing import Any

from ausl_dist import objectives
from ausl_dist.batch import View
from ausl_dist.objectives.base import Objective
from ausl_dist.settings import SettingsError, check, from_mapping, with_defaults

TARGET = "_target_"
OWN_OBJECTIVES = "AUSL_OBJECTIVES"  # packages of one's own objectives, with commas between
GIVEN = ("feature_dim", "map_dim")  # widths, told by the backbone, not by the config
PARTS = {f"{View.__module__}.{View.__qualname__}": View}


def build_objective(
    settings: Mapping[str, Any], *, feature_dim: int, map_dim: int | None = None
) -> Objective:
    """Build one objective from its mapping; `map_dim` (default: as `feature_dim`) is for those
    that look at maps.

    Raises SettingsError where the mapping does not fit the class, or names none that is
    allowed.
    """
    cls = _objective(settings, "objective")
    own = _without_targets(_own(settings), cls.__name__)
    widths: dict[str, Any] = {"feature_dim": feature_dim}
    if "map_dim" in inspect.signature(cls).parameters:
        widths["map_dim"] = map_dim or feature_dim
    try:
        return from_mapping(cls, own, **widths)
    except ValueError as error:
        raise SettingsError(f"objective {settings[TARGET]}: {error}") from error


def complete(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping with the defaults of its class's constructor; `where` is its dotted path."""
    cls = _objective(settings, where)
    own = _without_targets(_own(settings), where)
    return {TARGET: settings[TARGET], **with_defaults(cls, own, GIVEN)}


def check_objective(settings: Mapping[str, Any], where: str) -> None:
    """Refuse names and types that the class does not know, without building it."""
    cls = _objective(settings, where)
    check(cls, _without_targets(_own(settings), where), where, GIVEN)


def _own(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != TARGET}


def _objective(settings: Mapping[str, Any], where: str) -> type[Objective]:
    target = settings.get(TARGET)
    if not isinstance(target, str):
        raise SettingsError(
            f"{where}: {TARGET} must name a class, as the files of configs/objective/ do"
        )
    module, _, name = target.rpartition(".")
    if not any(module == own or module.startswith(f"{own}.") for own in _packages()):
        raise SettingsError(
            f"{where}: {TARGET}={target} is no subclass of Objective in ausl_dist.objectives; "
            f"where you trust another package, type export {OWN_OBJECTIVES}={module or 'PACKAGE'}"
        )
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise SettingsError(f"{where}: {target}: {error}{_near(module)}") from error
    if not (isinstance(found, type) and issubclass(found, Objective)):
        raise SettingsError(
            f"{where}: {TARGET}={target} must name a subclass of ausl_dist.objectives.base.Objective"
        )
    return found


def _packages() -> list[str]:
    own = os.environ.get(OWN_OBJECTIVES, "")
    return [objectives.__name__, *(name.strip() for name in own.split(",") if name.strip())]


def _near(module: str) -> str:
    known = [
        f"{objectives.__name__}.{each.name}"
        for each in pkgutil.iter_modules(objectives.__path__)
    ]
    near = difflib.get_close_matches(module, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _without_targets(value: Any, where: str) -> Any:
    """The settings of parts as plain groups: their class is known by the constructor's types,
    and a `_target_` may only repeat it.
    """
    if isinstance(value, list | tuple):
        return [_without_targets(item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.get(TARGET, next(iter(PARTS))) not in PARTS:
        raise SettingsError(
            f"{where}: {TARGET}={value[TARGET]!r} is no part of an objective; "
            f"the parts are {', '.join(PARTS)}"
        )
    return {
        name: _without_targets(item, f"{where}.{name}")
        for name, item in value.items()
        if name != TARGET
    }

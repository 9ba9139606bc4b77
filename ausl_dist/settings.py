"""From a resolved config (plain mappings) to frozen dataclasses, with errors that say what to type
instead.

Each room declares its own settings as a frozen dataclass with checks in `__post_init__`;
`from_mapping` builds any of them.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it by its dotted path."""


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from a mapping, recursively and strictly.

    Raises SettingsError for an unknown key (with the nearest known one), a missing key, a value of
    the wrong type, or a combination that the dataclass refuses.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where or 'config'} must be a group of settings, not {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = (
                f"did you mean {_join(where, near[0])}?"
                if near
                else f"known here: {', '.join(fields)}"
            )
            raise SettingsError(f"unknown setting {_join(where, str(name))}: {hint}")
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SettingsError(f"setting {_join(where, name)} is missing")
    try:
        return cls(**arguments)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{where}: {error}" if where else str(error)) from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in parameters:
            return None
        return _convert(next(p for p in parameters if p is not type(None)), value, where)
    if origin is typing.Literal:
        if value in parameters:
            return value
        raise SettingsError(
            f"{where} must be one of {', '.join(map(str, parameters))}, not {value!r}"
        )
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise SettingsError(f"{where} must be a list, not {value!r}")
        kinds = [parameters[0]] * len(value) if parameters[-1] is Ellipsis else list(parameters)
        if len(kinds) != len(value):
            raise SettingsError(f"{where} must have {len(kinds)} entries, not {len(value)}")
        return tuple(
            _convert(kind, item, f"{where}[{i}]")
            for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin in (dict, Mapping) or origin is typing.get_origin(Mapping[str, Any]):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where} must be a group of settings, not {value!r}")
        return {
            key: _convert(parameters[1], item, _join(where, str(key)))
            for key, item in value.items()
        }
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise SettingsError(f"{where} must be {_kind(hint)}, not {value!r}")


def _kind(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(
        hint, str(hint)
    )


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name

"""From plain mappings to checked settings, with errors that say what to type instead.

    YAML ──▶ with_defaults ──▶ the whole config, as printed and stored ──▶ from_mapping ──▶ dataclasses

Each room declares its settings once: as a frozen dataclass with checks in `__post_init__`, or
as the constructor of a class (an objective). Defaults, types and names are read from there.
"""

import contextlib
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

REQUIRED = object()
MAX_INTEGER_BITS = 63


class SettingsError(ValueError):
    """A setting that cannot be used; the message names it by its dotted path."""


@dataclass(frozen=True)
class Parameter:
    """One setting of a class."""

    name: str
    hint: Any
    default: Any  # REQUIRED where there is none


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "", **given: Any) -> T:
    """Build `cls` from a mapping, recursively and strictly; `given` are arguments that are no
    settings.

    Raises SettingsError for an unknown key (with the nearest known one), a missing key, a value
    of the wrong type, or a combination that the class refuses.
    """
    arguments = check(cls, values, where, given)
    try:
        return cls(**arguments, **given)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"{where}: {error}" if where else str(error)) from error


def check(
    cls: type, values: Mapping[str, Any], where: str = "", given: Iterable[str] = ()
) -> dict[str, Any]:
    """The arguments for `cls`, checked one by one; `given` are names that somebody else fills
    in.

    Raises SettingsError as `from_mapping` does, but for combinations.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where or 'config'} must be a group of settings, not {values!r}")
    known = {each.name: each for each in parameters(cls) if each.name not in given}
    for name in values:
        if name not in known:
            raise unknown(name, known, where)
    arguments = {}
    for name, parameter in known.items():
        if name in values:
            arguments[name] = _convert(parameter.hint, values[name], _join(where, name))
        elif parameter.default is REQUIRED:
            raise SettingsError(f"setting {_join(where, name)} is missing")
    return arguments


def with_defaults(
    cls: type, values: Mapping[str, Any], given: Iterable[str] = ()
) -> dict[str, Any]:
    """`values` and, for what they leave out, the defaults of `cls`: plain mappings, as YAML
    writes them.

    Checks nothing: unknown keys stay, and so do texts that stand for a value (`${data.lanes}`).
    """
    whole: dict[str, Any] = {}
    for parameter in parameters(cls):
        name = parameter.name
        if name in given:
            continue
        if name in values:
            whole[name] = _filled(parameter, values[name])
        elif parameter.default is not REQUIRED:
            whole[name] = plain(parameter.default)
        elif dataclasses.is_dataclass(parameter.hint):
            whole[name] = with_defaults(parameter.hint, {})  # type: ignore[arg-type]
    return whole | {name: value for name, value in values.items() if name not in whole}


def parameters(cls: type) -> list[Parameter]:
    """The settings of a dataclass, or the keyword arguments of a class's constructor (with
    those that `**` hands on to the next class).
    """
    if dataclasses.is_dataclass(cls):
        hints = typing.get_type_hints(cls)
        return [
            Parameter(f.name, hints[f.name], _default_of(f)) for f in dataclasses.fields(cls)
        ]
    found: dict[str, Parameter] = {}
    for owner in cls.__mro__:
        constructor = vars(owner).get("__init__")
        if constructor is None:
            continue
        signature = inspect.signature(constructor).parameters.values()
        hints = typing.get_type_hints(constructor)
        for each in [
            p for p in signature if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]:
            if each.name != "self":
                default = REQUIRED if each.default is each.empty else each.default
                hint = hints.get(each.name, Any)
                found.setdefault(each.name, Parameter(each.name, hint, default))
        if not any(each.kind is each.VAR_KEYWORD for each in signature):
            break
    return list(found.values())


def unknown(name: object, known: Iterable[str], where: str = "") -> SettingsError:
    """The error for a key that is not there: the nearest of those that are, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = (
        f"did you mean {_join(where, near[0])}?" if near else f"known here: {', '.join(known)}"
    )
    return SettingsError(f"unknown setting {_join(where, str(name))}: {hint}")


def plain(value: Any) -> Any:
    """A default as YAML writes it: dataclasses as mappings, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED


def _filled(parameter: Parameter, value: Any) -> Any:
    """A value that was given, with the defaults of the groups inside it.

    A group completes the default of its own parameter, which may differ from the class's.
    """
    if not isinstance(value, Mapping):
        return value
    hint = parameter.hint
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(
            (each for each in typing.get_args(hint) if dataclasses.is_dataclass(each)), Any
        )
    if dataclasses.is_dataclass(hint):
        base = plain(parameter.default) if dataclasses.is_dataclass(parameter.default) else {}
        return with_defaults(hint, {**base, **value})  # type: ignore[arg-type]
    if typing.get_origin(hint) is dict and dataclasses.is_dataclass(typing.get_args(hint)[1]):
        item = Parameter("", typing.get_args(hint)[1], REQUIRED)
        return {key: _filled(item, each) for key, each in value.items()}
    return dict(value)


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
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _sequence(origin, parameters, value, where)
    if origin in (dict, Mapping) or origin is typing.get_origin(Mapping[str, Any]):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where} must be a group of settings, not {value!r}")
        return {
            key: _convert(parameters[1], item, _join(where, str(key)))
            for key, item in value.items()
        }
    return _scalar(hint, value, where)


def _sequence(kind: type, parameters: tuple[Any, ...], value: Any, where: str) -> Any:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise SettingsError(f"{where} must be a list, not {value!r}")
    alike = kind is not tuple or parameters[-1] is Ellipsis
    hints = [parameters[0]] * len(value) if alike else list(parameters)
    if len(hints) != len(value):
        raise SettingsError(f"{where} must have {len(hints)} entries, not {len(value)}")
    items = [
        _convert(hint, item, f"{where}[{i}]")
        for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    ]
    return tuple(items) if kind is tuple else items


def _scalar(hint: Any, value: Any, where: str) -> Any:
    # YAML 1.1 reads 1e-3 as text
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise SettingsError(f"{where} is a number of {value.bit_length()} bits: too large")
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise SettingsError(f"{where} must be {_kind(hint)}, not {value!r}")


def _kind(hint: Any) -> str:
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(
        hint, str(hint)
    )


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name

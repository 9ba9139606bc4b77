"""The text of a config, before anything in it is used: somebody else may have written it."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ausl_dist.files import read_bounded
from ausl_dist.settings import SettingsError

MAX_CONFIG_BYTES = 1 << 20
MAX_CONFIG_VALUES = 100_000
_WHOLE_NUMBER = "tag:yaml.org,2002:int"
_OLD_NUMBER = re.compile(r"[-+]?(?:0[0-7_]+|[\d_]+(?::[0-5]?\d)+)")  # 010 is 8, 1:30 is 90
_RESOLVER = re.compile(r"\$\{[^}]*(?::|\$\{)")  # ${oc.env:HOME}, ${oc.${name}:HOME}


def load_config(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, as written; SettingsError with the path for what is no
    mapping of settings.
    """
    try:
        values = _values(read_bounded(path, MAX_CONFIG_BYTES).decode("utf-8"), path)
    except SettingsError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must be a mapping of settings")
    return {str(name): value for name, value in values.items()}


def _values(text: str, path: Path) -> Any:
    """What a text stands for, parsed once and used when it is checked."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _check_size(node, path)
        _check_nodes(node, path)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _check_size(document: yaml.Node | None, path: Path) -> None:
    """Refuse aliases that stand for much more than is written."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node | None) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = MAX_CONFIG_VALUES + 1  # a node inside itself
            parts = [each for item in node.value for each in _both(item)]
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    if size(document) > MAX_CONFIG_VALUES:
        raise SettingsError(f"{path} holds more than {MAX_CONFIG_VALUES} values")


def _check_nodes(document: yaml.Node | None, path: Path) -> None:
    """Refuse what would be read as something else than what is written."""
    waiting, seen = [document], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node, path)
            continue
        if isinstance(node, yaml.MappingNode):
            keys = Counter(
                key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)
            )
            for key, count in keys.items():
                if count > 1 and key != "<<":
                    raise SettingsError(f"{path}: {key} stands twice in one place: keep one")
        waiting += [each for item in node.value for each in _both(item)]


def _check_scalar(node: yaml.ScalarNode, path: Path) -> None:
    # here and not in the file's text, where "\\x24{oc.env:HOME}" would hide it
    if match := _RESOLVER.search(node.value):
        raise SettingsError(
            f"{path}: {match[0]}…}} asks for something outside the config: write the value itself"
        )
    if node.tag == _WHOLE_NUMBER and _OLD_NUMBER.fullmatch(node.value):
        raise SettingsError(
            f"{path}: {node.value} would be read as hours, minutes and seconds or in another base "
            "than ten: write it as a plain number, or in quotes"
        )


def _both(item: Any) -> Iterable[Any]:
    """Key and value of a mapping's entry, or an entry of a list."""
    return item if isinstance(item, tuple) else (item,)

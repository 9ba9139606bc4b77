"""The text of a config, before anything in it is used: somebody else may have written it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ausl_dist.settings import SettingsError

MAX_CONFIG_VALUES = 100_000
_RESOLVER = re.compile(r"\$\{\s*[\w.]+\s*:")  # ${oc.env:HOME}


def check_text(path: Path) -> None:
    """Refuse what ours never hold: texts that ask for variables or code while they are read,
    and aliases that stand for much more than is written.
    """
    text = path.read_text(encoding="utf-8")
    if match := _RESOLVER.search(text):
        raise SettingsError(
            f"{path}: {match[0]}…}} asks for something outside the config: write the value itself"
        )
    sizes: dict[int, int] = {}

    def size(node: yaml.Node | None) -> int:
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = MAX_CONFIG_VALUES + 1  # a node inside itself
            parts = [each for item in node.value for each in _both(item)]
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    if size(yaml.compose(text, Loader=yaml.SafeLoader)) > MAX_CONFIG_VALUES:
        raise SettingsError(f"{path} holds more than {MAX_CONFIG_VALUES} values")


def _both(item: Any) -> Iterable[Any]:
    """Key and value of a mapping's entry, or an entry of a list."""
    return item if isinstance(item, tuple) else (item,)

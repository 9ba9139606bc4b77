"""The house has walls: no circle of files, and no room reaches into one that it must not know.

Every import counts, also those inside functions; those for the type checker alone do not, as
they are never run.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSES = ("ausl_dist", "launch", "tools")
# What must not be known where: who learns nothing of training stays usable without it.
FORBIDDEN = {
    "ausl_dist.shards": (
        "train",
        "faces",
        "corpus",
        "stream",
        "objectives",
        "model",
        "release",
    ),
    "ausl_dist.faces": (
        "shards",
        "train",
        "corpus",
        "stream",
        "objectives",
        "model",
        "release",
    ),
    "ausl_dist.corpus": ("train", "objectives", "model", "release", "evaluate"),
    "ausl_dist.stream": ("train", "model", "corpus", "release", "evaluate", "observe"),
    "ausl_dist.objectives": ("train", "stream", "shards", "corpus", "release", "observe"),
    "ausl_dist.model": ("train", "corpus", "release", "evaluate", "observe"),
    "ausl_dist.release": ("evaluate", "launch"),
    "ausl_dist.evaluate": ("launch",),
    "ausl_dist.train": ("evaluate", "release", "corpus"),
    "ausl_dist.observe": ("corpus", "release", "evaluate", "objectives", "model"),
    "ausl_dist.pages": (
        "train",
        "observe",
        "evaluate",
        "corpus",
        "release",
        "stream",
        "shards",
    ),
    "ausl_dist.world": ("train", "release", "evaluate", "stream", "objectives", "model"),
    "ausl_dist": ("launch", "tools", "tests"),
    "launch": ("tools", "tests"),
    "tools": ("tests",),
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the house by its name."""
    found = {}
    for house in HOUSES:
        for path in (ROOT / house).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def graph() -> dict[str, frozenset[str]]:
    """The modules that each module imports; a package counts only where its own file gives the
    name.
    """
    return {
        name: frozenset(
            _imported(name, ast.parse(path.read_text()), path.name == "__init__.py")
        )
        for name, path in modules().items()
    }


def _imported(name: str, tree: ast.AST, is_package: bool) -> Iterator[str]:
    for node in _run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            base = _base(name, node, is_package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                target = inner if inner in modules() else base
                if target in modules() and target != name:
                    yield target


def _base(name: str, node: ast.ImportFrom, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but what stands under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _run(node)


def circles() -> list[list[str]]:
    """Groups of files each of which reaches every other by imports (Tarjan, 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in graph()[name]:
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph():
        if name not in number:
            visit(name)
    return found


def test_the_graph_sees_the_house() -> None:
    assert "ausl_dist.files" in graph()["ausl_dist.release.bundle"]
    assert "ausl_dist.train.checkpoint" in graph()["ausl_dist.train.run"]


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles() == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_knows_what_it_must_not(room: str) -> None:
    house = "" if room in HOUSES else "ausl_dist."
    walls = tuple(f"{house}{name}" for name in FORBIDDEN[room])
    through = [
        f"{name} imports {other}"
        for name, others in sorted(graph().items())
        if name == room or name.startswith(f"{room}.")
        for other in sorted(others)
        if any(other == wall or other.startswith(f"{wall}.") for wall in walls)
    ]
    assert through == []


# Started by themselves, again and again, and by processes of theirs: seconds of imports would be
# most of what they cost.
WITHOUT_TORCH = (
    "ausl_dist.run_folder",
    "ausl_dist.observe.report",
    "launch.__main__",
    "launch.status",
    "launch.supervise",
    "tools.build_corpus",
    "tools.index_shards",
    "tools.take_down",
    "tools.render_world",
)


def test_what_needs_no_torch_starts_without_it() -> None:
    program = (
        "import importlib, sys\n"
        f"for name in {WITHOUT_TORCH}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr

"""What text names exists: every path, module, command, option and setting in READMEs,
docstrings, comments and messages; and every setting that a text tells one to type is accepted.
"""

import ast
import importlib
import re
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.evaluate.datasets import DATA_SETS
from ausl_dist.evaluate.protocol import ProtocolSettings
from ausl_dist.settings import parameters, with_defaults
from ausl_dist.train.settings import RunSettings
from launch.cluster import SlurmCluster
from launch.compose import CONFIGS, choices, compose

ROOT = Path(__file__).resolve().parents[2]
ROOMS = "ausl_dist|launch|configs|tools|tests"
GROUPS = "data|backbone|optimizer|engine|checkpoint|observe|watch|rewind|health|online|cluster"

# What looks like a name of ours and is none, each with its reason.
ALLOWED = {
    "configs/cluster/mysite.yaml": "the reader makes it",
    "cluster=mysite": "the reader makes it",
    "job.sh": "written by a check",
    "backbone.net": "the start of the names of weights",
    "backbone.dim": "an attribute of a backbone in hand",
}
# Texts about what must be refused name what does not exist.
WRONG_ON_PURPOSE = ("tests/",)


@dataclass(frozen=True)
class Text:
    """A piece of text that somebody reads, and the file it stands in."""

    file: str
    text: str


@cache
def tracked() -> tuple[str, ...]:
    """The files of the tree, without what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return tuple(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


@cache
def texts() -> tuple[Text, ...]:
    """All text of the tree outside its tests: whole documents, and what is said inside code."""
    found: list[Text] = []
    for name in tracked():
        if name.startswith(WRONG_ON_PURPOSE) and not name.endswith(".md"):
            continue
        if name.endswith(".py"):
            found += [Text(name, text) for text in said_in_code(ROOT / name)]
        elif name.endswith((".md", ".yaml", ".yml", ".toml", ".sh")):
            found.append(Text(name, (ROOT / name).read_text()))
    return tuple(found)


def said_in_code(file: Path) -> Iterator[str]:
    """Comments and strings of a module; parts of one message are put together, and what is
    filled in stands as {}.
    """
    with open(file, "rb") as lines:
        tokens = list(tokenize.tokenize(lines.readline))
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)
    inside: set[int] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node)}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}"
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield str(node.value)


def named(pattern: str) -> list[tuple[str, str]]:
    """Every match of `pattern` (its first group, where it has one), with the file it stands in."""
    found = {}
    for each in texts():
        for match in re.finditer(pattern, each.text):
            found[each.file, (match[1] if match.re.groups else match[0]).rstrip(".,:;")] = None
    return list(found)


def is_placeholder(name: str) -> bool:
    """NAME, MYSITE, *, {} and the like stand for something that the reader fills in."""
    return bool(re.search(r"[*{}<>…$]|\b[A-Z]{2,}", name))


def test_every_path_exists() -> None:
    everything = {
        *tracked(),
        *(str(parent) for file in tracked() for parent in Path(file).parents),
    }
    wrong = [
        f"{file}: {path}"
        for file, path in named(rf"(?<![\w/.:\-])((?:{ROOMS})/[\w./*{{}}-]+)")
        if path.rstrip("/") not in everything
        and not is_placeholder(path)
        and path not in ALLOWED
        and not (ROOT / Path(file).parent / path).exists()
    ]
    assert not wrong, "\n".join(wrong)


def test_every_link_between_documents_leads_somewhere() -> None:
    wrong = [
        f"{file}: {link}"
        for file, link in named(r"\]\(([^)#]+)")
        if file.endswith(".md")
        and "://" not in link
        and not (ROOT / Path(file).parent / link).exists()
    ]
    assert not wrong, "\n".join(wrong)


def test_every_code_file_that_is_named_alone_exists() -> None:
    names = {Path(file).name for file in tracked()}
    wrong = [
        f"{file}: {name}"
        for file, name in named(r"(?<![\w/.{}*-])([a-z_]\w*\.(?:py|yaml|sh))\b")
        if name not in names and name not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_exists() -> None:
    wrong = [
        f"{file}: {name}"
        for file, name in named(
            r"(?<![\w/.-])((?:ausl_dist|launch|tools|tests)(?:\.[A-Za-z_]\w*)+)"
        )
        if not is_placeholder(name) and not resolves(name)
    ]
    assert not wrong, "\n".join(wrong)


@cache
def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something inside one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.is_dir() or path.with_suffix(".py").is_file():
            if length == len(parts):
                return True
            found: Any = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


def test_tools_are_spelt_in_one_way() -> None:
    wrong = [f"{file}: {name}" for file, name in named(r"(?:python3? )tools/\w+\.py")]
    assert not wrong, "\n".join(wrong)


def test_every_command_and_its_options_exist() -> None:
    wrong = []
    for file, command in named(r"python3? -m ((?:launch|tools)\b[^`\n|#\"]*)"):
        words = command.split("  ")[0].split()
        module = words[0].rstrip(".,:;)'")
        if is_placeholder(module):
            continue
        source = source_of(module)
        if not source:
            wrong.append(f"{file}: {module}")
            continue
        options = [
            word.partition("=")[0].strip("[]().,;")
            for word in words
            if word.startswith(("--", "[--"))
        ]
        wrong += [
            f"{file}: {module} {option}"
            for option in options
            if option not in ("--", "--part", "") and f'"{option}"' not in source
        ]
        verb = words[1].rstrip(".,:;)'") if module == "launch" and len(words) > 1 else ""
        if verb and re.fullmatch(r"[a-z]+", verb) and f'"{verb}"' not in source:
            wrong.append(f"{file}: launch {verb}")
    assert not wrong, "\n".join(wrong)


@cache
def source_of(module: str) -> str:
    """The code that reads the command line of `python -m MODULE`; empty where there is none."""
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path / "__main__.py", path.with_suffix(".py")):
        if candidate.is_file():
            rest = [file.read_text() for file in candidate.parent.glob("*.py")]
            return candidate.read_text() + "".join(rest if module == "launch" else [])
    return ""


@cache
def known_settings() -> frozenset[str]:
    """Every dotted name that a run, a corpus build or an evaluation takes."""
    names: set[str] = set()

    def walk(values: Any, path: str) -> None:
        names.add(path)
        if isinstance(values, dict):
            for name, value in values.items():
                walk(value, f"{path}.{name}" if path else name)

    for cls in (RunSettings, CorpusSettings, ProtocolSettings):
        walk(with_defaults(cls, {}), "")
        names.update(each.name for each in parameters(cls))
    walk({"cluster": {each.name: None for each in parameters(SlurmCluster)}}, "")
    walk(
        {"cluster": {"ranks": None}, "data": {"corpora": None}, "backbone": {"name": None}}, ""
    )
    for name in choices("objective"):
        words = ["name=x", "steps=1", "data.corpora.main.url=x", "mixture=none"]
        walk({"objectives": compose([*words, f"mixture.{name}=1"]).run["objectives"]}, "")
    return frozenset(names)


def settings_named() -> list[tuple[str, str]]:
    dotted = rf"(?<![\w/.-])((?:{GROUPS}|objectives)(?:\.[a-z_][a-z_0-9]*)+)(?![\w(/-])"
    return [
        (file, name)
        for file, name in named(dotted)
        if not name.endswith((".py", ".md", ".yaml", ".json", ".jsonl", ".safetensors", ".log"))
    ]


def test_every_setting_that_is_named_exists() -> None:
    known = known_settings()
    wrong = [
        f"{file}: {name}"
        for file, name in settings_named()
        if name not in known
        and not name.startswith("data.corpora.")
        and not resolves(f"ausl_dist.{name}")
        and not resolves(f"{'.'.join(Path(file).parts[:-1])}.{name}")
        and name not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


def test_every_choice_of_a_group_exists() -> None:
    groups = [
        "experiment",
        "mixture",
        *(path.name for path in CONFIGS.iterdir() if path.is_dir()),
    ]
    wrong = [
        f"{file}: {group}={choice}"
        for group in groups
        for file, choice in named(rf"(?<![\w.{{-]){group}=([a-z][a-z0-9_]*)(?!\w|\.\w)")
        if choice not in choices(group)
        and f"{group}={choice}" not in ALLOWED
        and not (group == "data" and choice in DATA_SETS)  # of an evaluation
    ]
    assert not wrong, "\n".join(wrong)


@cache
def classes() -> dict[str, set[str]]:
    """The attributes of every class of the package, those of equal names together."""
    found: dict[str, set[str]] = {}
    for name in tracked():
        if name.endswith(".py") and not name.startswith("tests/"):
            for node in ast.walk(ast.parse((ROOT / name).read_text())):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, set()).update(attributes(node))
    return found


def attributes(node: ast.ClassDef) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield each.name
        elif isinstance(each, ast.Name | ast.Attribute) and isinstance(each.ctx, ast.Store):
            yield each.id if isinstance(each, ast.Name) else each.attr


def test_every_attribute_of_a_class_exists() -> None:
    wrong = [
        f"{file}: {name}"
        for file, name in named(r"(?<![\w./])([A-Z]\w+\.[a-z_]\w*)")
        if (parts := name.split("."))[0] in classes() and parts[1] not in classes()[parts[0]]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_setting_that_one_is_told_to_type_is_accepted() -> None:
    """Typed all at once, each with the value that it has: none is unknown, none wants a plus."""
    words = ["experiment=joint", "cluster=slurm", "data.corpora.main.url=s3://bucket/corpus"]
    run = compose(words)
    whole = {**run.run, "cluster": run.cluster}
    typed = []
    for name in sorted({name for _, name in settings_named()} & known_settings()):
        value: Any = whole
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str | int | float | bool) and value != "":
            typed.append(f"{name}={value}")
    assert len(typed) > 30
    again = compose([*words, *typed])
    assert {**again.run, "cluster": again.cluster} == whole

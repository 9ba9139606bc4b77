"""What an option needs is asked for before the work, by a sentence that says what to type."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

from ausl_dist.packages import NEEDS, require
from ausl_dist.release.export import check_exports
from ausl_dist.release.tables import check_table
from launch.compose import compose
from launch.prepare import prepare
from tools import extract, release

ROOT = Path(__file__).parents[1]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("option", NEEDS)
def test_what_is_missing_is_named_with_an_extra_that_brings_it(option: str) -> None:
    with pytest.raises(ValueError, match="not installed here: pip install") as raised:
        require(option)
    extra = str(raised.value).rsplit("[", 1)[1].split("]")[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    brought = " ".join(extras[extra])
    assert all(module in brought for module in NEEDS[option].modules)


@pytest.mark.usefixtures("nothing_installed")
def test_releases_and_tables_ask_before_they_look_at_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["release", "no-such-run", *out, "--export", "onnx"])
    with pytest.raises(ValueError, match="--export onnx needs onnx and onnxruntime"):
        release.main()
    table = ["--out", str(tmp_path / "out.parquet")]
    monkeypatch.setattr("sys.argv", ["extract", "no.mp4", "--backbone", "none", *table])
    with pytest.raises(ValueError, match="a table in Parquet needs pyarrow"):
        extract.main()
    check_exports(["float16"])
    check_table(tmp_path / "out.csv")


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    "word", ["observe.trackers.tensorboard=true", "observe.trackers.wandb_project=faces"]
)
def test_a_run_whose_tracker_is_missing_is_not_prepared(word: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["experiment=demo", f"data.corpora.main.url={tmp_path}", f"folder={folder}", word]
    composed = compose(words)
    with pytest.raises(ValueError, match="pip install 'ausl_dist"):
        prepare(composed)
    assert not folder.exists()

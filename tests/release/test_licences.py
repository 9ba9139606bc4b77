"""A licence that lets everybody do everything stands on sources that allow it, or is refused."""

from pathlib import Path
from typing import Any

import pytest

from ausl_dist.faces.models import models_id
from ausl_dist.files import read_json, write_json
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.licences import Source, check_licence, sources_of, spdx
from tests.support.run_folders import checkpoint_of, make_run


def statement(**changes: Any) -> dict[str, Any]:
    return {"clips": 3, "licences": {"CC0": 3}, "detector": "rendered", **changes}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CC BY 4.0 (repo LICENSE, Intel)", "cc-by-4.0"),
        ("GRID corpus CC BY 4.0", "grid-corpus-cc-by-4.0"),  # a guess would be a lawyer's
        ("Apache License, Version 2.0", "apache-2.0"),
        ("MIT License", "mit"),
        ("BSD-3 (scikit-video)", "bsd-3-clause"),
        ("CC-BY-NC 4.0", "cc-by-nc-4.0"),
        ("cc0", "cc0-1.0"),
    ],
)
def test_licences_are_read_as_they_are_usually_written(written: str, meant: str) -> None:
    assert spdx(written) == meant


@pytest.mark.parametrize(
    "changes",
    [
        {"licences": {"CC0": 2, "CC BY-NC 4.0": 1}},
        {"licences": {"CC0": 2}},  # of three clips
        {"licences": {}},
        {"licences": None},
        {"licences": {" ": 3}},
        {"licences": {"MIT; test sequence of a broadcaster": 3}},
        {"detector": "somebody's"},
    ],
)
def test_a_permissive_licence_is_refused_where_one_source_is_not(
    changes: dict[str, Any],
) -> None:
    sources = sources_of({"main": statement(**changes)}, None)
    for licence in ("apache-2.0", "MIT", "Apache 2.0"):
        with pytest.raises(ValueError, match=r"main.*--licence other"):
            check_licence(licence, sources)
    for licence in ("other", "cc-by-nc-4.0"):
        check_licence(licence, sources)


def test_open_data_and_known_teachers_may_be_released_under_any() -> None:
    corpora = {"a": statement(), "b": statement(detector=models_id())}
    sources = sources_of(corpora, None)
    check_licence("apache-2.0", sources)
    assert Source("the landmarks of b, MediaPipe Face Landmarker", "Apache-2.0") in sources
    with pytest.raises(
        ValueError, match=r"the first weights, imagenet\.safetensors: no licence"
    ):
        check_licence("mit", sources_of(corpora, "imagenet.safetensors"))


def test_a_card_names_every_source_and_a_refused_release_leaves_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    out = tmp_path / "bundle"
    write_bundle(run, out, checkpoint=checkpoint_of(run), licence="apache-2.0")
    assert "| 3 clips of main | CC0 |" in (out / "README.md").read_text()
    (corpus,) = [path for path in tmp_path.rglob("corpus.json") if out not in path.parents]
    write_json(corpus, {**read_json(corpus), "licences": {"research only | ask": 3}})
    with pytest.raises(ValueError, match="research only"):
        write_bundle(run, tmp_path / "no", checkpoint=checkpoint_of(run), licence="apache-2.0")
    assert not (tmp_path / "no").exists()
    write_bundle(run, tmp_path / "other", checkpoint=checkpoint_of(run))
    assert "| research only / ask |" in (tmp_path / "other" / "README.md").read_text()

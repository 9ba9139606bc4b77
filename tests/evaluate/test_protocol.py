"""The whole protocol on a data set as it lies on disk, by the command that a user types."""

import json
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from ausl_dist.evaluate.adapters import ForeignSettings
from ausl_dist.evaluate.datasets import DATA_SETS
from ausl_dist.evaluate.datasets.cache import cached_corpus
from ausl_dist.evaluate.datasets.examples import rendered_faces, write_tree
from ausl_dist.evaluate.predictors.finetune import FinetuneSettings
from ausl_dist.evaluate.protocol import ProtocolSettings, run_protocol
from ausl_dist.evaluate.report.tables import write_report
from ausl_dist.evaluate.scores import alignment
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.release.bundle import write_bundle
from ausl_dist.settings import from_mapping
from ausl_dist.stream.scan import scan
from tests.support.run_folders import checkpoint_of, make_run
from tools import evaluate

SUBJECTS = ["SN001", "SN002", "SN006", "SN011", "SN003", "SN004"]  # two of each published fold


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disfa") / "tree"
    write_tree("disfa", folder, rendered_faces(SUBJECTS, frames=16, size=192))
    return folder


@pytest.fixture(scope="module")
def cache(tree: Path, faces: Path) -> Path:
    folder = tree.parent / "cache"
    cached_corpus("disfa", DATA_SETS["disfa"].read(tree), folder, models=faces / "models")
    return folder


def test_every_labelled_frame_of_the_tree_is_in_the_cache_with_its_label(
    tree: Path, cache: Path, faces: Path
) -> None:
    recordings = {recording.subject: recording for recording in DATA_SETS["disfa"].read(tree)}
    url = cached_corpus("disfa", list(recordings.values()), cache, models=faces / "models")
    assert len(list(cache.iterdir())) == 1  # the second call found the first one's corpus
    clips = list(scan(url, image_size=32))
    assert {clip.meta.identity for clip in clips} == {f"disfa:{name}" for name in SUBJECTS}
    for clip in clips:
        first = round(clip.meta.start_second * clip.meta.fps)
        wanted = recordings[clip.meta.identity].labels[first : first + len(clip.numbers)]
        assert clip.action_units is not None
        assert clip.action_units.tolist() == wanted.tolist()
    assert sum(len(clip.numbers) for clip in clips) == 16 * len(SUBJECTS)


@pytest.mark.parametrize(
    "extra",
    [[], ["task=occurrence", "protocol=mlp", "network.max_epochs=2", "label_share=0.5"]],
)
def test_the_command_runs_the_published_folds(
    extra: list[str],
    tree: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_num_threads(1)
    run = make_run(tmp_path)
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    words = [
        f"bundle={tmp_path / 'bundle'}",
        "data=disfa",
        f"root={tree}",
        f"out={tmp_path / 'out'}",
        f"cache={cache}",
        *extra,
    ]
    monkeypatch.setattr(sys, "argv", ["evaluate", *words])
    assert evaluate.main() == 0
    assert "in 3 fold(s)" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["folds"]) == {"P1", "P2", "P3"}
    assert report["folds"]["P1"] == ["disfa:SN001", "disfa:SN002"]
    assert report["action_units"] == (
        [1, 2, 4, 6, 9, 12, 25, 26] if extra else [1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26]
    )
    assert report["frames_left_out"] == {
        "labelled": 96,
        "kept": 96,
        "without_face": 0,
        "without_picture": 0,
    }
    assert "CLP, TIP 2023" in (tmp_path / "out" / "report.html").read_text() if extra else True


def test_label_rates_alignment_and_the_intensity_split_in_one_run(
    tree: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "DISTURBANCES", alignment.DISTURBANCES[::8])
    run = make_run(tmp_path)
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    settings = ProtocolSettings(
        bundle=str(tmp_path / "bundle"),
        data="disfa",
        root=str(tree),
        cache=str(cache),
        split="ARL",
        label_rates=(0.5, 1.0),
        alignment_meter=True,
        resamples=20,
        seed=3,
    )
    comparison, context = run_protocol(settings)
    assert dict(comparison.folds) == {
        "ARL": ("disfa:SN002", "disfa:SN003", "disfa:SN004", "disfa:SN006")
    }
    few, all_ = context["label_rates"]
    assert (few["share"], few["seed"]) == (0.5, 3)
    assert all_["rows"]["pretrained"]["pooled"] == pytest.approx(
        comparison.rows[0].scores["icc"].mean, abs=1e-6
    )
    assert few["rows"]["pretrained"] != all_["rows"]["pretrained"]
    assert [line["kind"] for line in context["alignment"]] == ["none", "shift right", "scale"]
    assert context["alignment"][1]["score"] != context["alignment"][0]["score"]


def test_a_foreign_checkpoint_goes_the_same_way_and_is_fine_tuned(
    tree: Path, cache: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_file(
        build_backbone(BackboneSettings("resnet10t", 32)).net.state_dict(),
        tmp_path / "w.safetensors",
    )
    foreign = ForeignSettings(
        "timm", name="resnet10t", weights=str(tmp_path / "w.safetensors"), image_size=32
    )
    settings = ProtocolSettings(
        foreign=foreign,
        data="disfa",
        root=str(tree),
        cache=str(cache),
        protocol="finetune",
        stride=2,
        resamples=20,
        finetune=FinetuneSettings(max_epochs=1, batch_frames=16),
    )
    comparison, context = run_protocol(settings)
    assert [row.name for row in comparison.rows] == [
        "pretrained",
        "random weights",
        "constant",
        "guess",
    ]
    assert comparison.rows[0].folds[0].predictor.decided.decisions["kind"] == "finetune"
    write_report(comparison, tmp_path / "out", **context)
    assert "crops are this project's" in (tmp_path / "out" / "report.md").read_text()
    assert not list(cache.glob("pictures-*"))  # gigabytes on a real data set


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[2] / "configs" / "eval").glob("*.yaml")),
    ids=lambda path: path.stem,
)
def test_every_configuration_is_understood(path: Path) -> None:
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict)
    backbone = (
        {"foreign": {**values["foreign"], "weights": "file"}}
        if "foreign" in values
        else {"bundle": "folder"}
    )
    from_mapping(ProtocolSettings, {**values, **backbone, "data": "disfa", "root": "folder"})


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["bundle=x", "data=dsifa", "root=y"], "known: bp4d"),
        (["bundle=x", "daat=disfa", "root=y"], "did you mean data"),
        (["bundle=x", "data", "root=y"], "key=value"),
        (["bundle=x", "data=bp4d", "root=y", "task=intensity"], "task=occurrence"),
        (["data=bp4d", "root=y"], "bundle=DIR"),
        (
            ["foreign.kind=mae", "foreign.weights=z", "bundle=x", "data=bp4d", "root=y"],
            "give one backbone",
        ),
        (
            ["bundle=x", "data=disfa", "root=y", "protocol=finetune", "alignment_meter=true"],
            "frozen features",
        ),
    ],
)
def test_a_slip_of_the_pen_is_answered_with_what_to_type(
    words: list[str], answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *words])
    with pytest.raises(ValueError, match=answer):
        evaluate.main()

"""Ours beside anybody's by one command: the same frames, folds and probe for all, chance and
simple features beside them, and a report that others can cite.
"""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ausl_dist.evaluate.datasets import DATA_SETS
from ausl_dist.evaluate.datasets.cache import cached_corpus
from ausl_dist.evaluate.datasets.examples import rendered_faces, write_tree
from ausl_dist.evaluate.referee import RefereeSettings, open_named
from ausl_dist.files import sha256_of
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.release.bundle import write_bundle
from tests.support.corpora import make_corpus
from tests.support.run_folders import checkpoint_of, make_run
from tools import evaluate


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("released")
    write_bundle(make_run(folder), folder / "bundle", checkpoint=checkpoint_of(folder / "run"))
    return folder / "bundle"


def video_network(folder: Path) -> Path:
    """A V-JEPA 2.1 of one block, random."""
    torch.manual_seed(0)
    width, hidden = 64, 64
    tensors: dict[str, Tensor] = {
        "patch_embed.proj.weight": torch.randn(width, 3, 2, 16, 16),
        "patch_embed.proj.bias": torch.zeros(width),
        "video_mod_embed": torch.zeros(1, 1, width),
        "blocks.0.attn.qkv.weight": torch.randn(3 * width, width),
        "blocks.0.attn.qkv.bias": torch.zeros(3 * width),
        "blocks.0.attn.proj.weight": torch.randn(width, width),
        "blocks.0.attn.proj.bias": torch.zeros(width),
        "blocks.0.mlp.fc1.weight": torch.randn(hidden, width),
        "blocks.0.mlp.fc1.bias": torch.zeros(hidden),
        "blocks.0.mlp.fc2.weight": torch.randn(width, hidden),
        "blocks.0.mlp.fc2.bias": torch.zeros(width),
    }
    for name in ("blocks.0.norm1", "blocks.0.norm2", "norms_block.0"):
        tensors |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    path = folder / "vjepa2_1_tiny.pt"
    torch.save({"target_encoder": {f"module.{k}": v for k, v in tensors.items()}}, path)
    return path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "referee", *words])
    assert evaluate.main() == 0


def test_a_video_network_is_judged_beside_ours_on_the_same_frames(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_num_threads(1)
    corpus = make_corpus(tmp_path / "corpus", clips=12, frames=10, size=64, action_units=True)
    video = video_network(tmp_path)
    words = [f"ours={bundle}", f"V-JEPA={video}", "--corpus", str(corpus), "--stride", "5"]
    # of 384 pixels by itself, which no test can pay for
    monkeypatch.setattr("ausl_dist.evaluate.adapters.vjepa.SIDE_2_1", 32)
    run([*words, "--out", str(tmp_path / "out")], monkeypatch)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = [row["name"] for row in report["rows"]]
    assert names[:4] == ["ours", "ours, random weights", "V-JEPA", "V-JEPA, random weights"]
    assert {"grey pixels, 16 x 16", "constant", "guess"} <= set(names)
    assert any("landmarks" in name for name in names)
    assert report["frames"] == 12 * 2  # frames 0 and 5 of each clip, for both kinds of network
    entrants = report["entrants"]
    assert entrants["V-JEPA"]["weights_sha256"] == sha256_of(video)
    assert entrants["V-JEPA"]["window"] == {"frames": 16, "step": 6}
    assert entrants["ours"]["readout"] == "mean"
    assert all(row["pooled"]["icc"]["interval"] for row in report["rows"][:4])
    assert "V-JEPA - " not in capsys.readouterr().out  # gains are those of the first
    picture = (tmp_path / "out" / "report.svg").read_text()
    assert picture.startswith("<svg xmlns=")
    assert picture.count("<rect class=") == len(names)
    assert (tmp_path / "out" / "report.md").read_text().startswith("| ICC(3,1) |")


def test_published_folds_and_units_hold_for_all(
    bundle: Path, tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    people = ["SN001", "SN006", "SN003"]  # one of each published fold
    write_tree("disfa", tmp_path / "tree", rendered_faces(people, frames=6, size=192))
    recordings = DATA_SETS["disfa"].read(tmp_path / "tree")
    cached_corpus("disfa", recordings, tmp_path / "cache", models=faces / "models")
    words = [f"ours={bundle}", "--data", "disfa", "--root", str(tmp_path / "tree")]
    words += ["--cache", str(tmp_path / "cache")]
    run([*words, "--out", str(tmp_path / "out"), "--task", "occurrence"], monkeypatch)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["folds"]) == {"P1", "P2", "P3"}
    assert report["action_units"] == [1, 2, 4, 6, 9, 12, 25, 26]


def test_a_timm_network_needs_no_file_and_the_readout_is_ours_too(
    bundle: Path, tmp_path: Path
) -> None:
    own = build_backbone(BackboneSettings("resnet10t", 64))
    save_file(own.net.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="none of the layouts"):
        open_named(str(tmp_path / "w.safetensors"))
    found = open_named(str(bundle), "grid")
    assert found.description["readout"] == "grid"
    assert found.backbone.dim == 9 * open_named(str(bundle)).backbone.map_dim
    with pytest.raises(ValueError, match="timm has no"):
        open_named("timm:no_such_network")


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="--corpus URL, or --data"):
        RefereeSettings()
    with pytest.raises(ValueError, match="--corpus URL, or --data"):
        RefereeSettings(data="disfa")

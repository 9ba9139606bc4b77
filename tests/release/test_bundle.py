"""A released backbone must load anywhere, be what was trained, and be refused when a single
byte of it changed.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ausl_dist
from ausl_dist.files import read_json, sha256_of, write_atomically
from ausl_dist.model.backbones import build_backbone, import_timm
from ausl_dist.release.bundle import write_bundle, write_named_bundle
from ausl_dist.release.card import misplaced_scores
from ausl_dist.release.detection import model_files
from ausl_dist.release.faces import FaceFrame
from ausl_dist.release.head import PROBE_NAME
from ausl_dist.release.network import weights_sha256
from ausl_dist.release.verify import BundleError, read_sums, write_sums
from tests.support.run_folders import SIZE, TINY, checkpoint_of, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_run(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    out = run.parent / "bundle"
    write_bundle(run, out, checkpoint=checkpoint_of(run))
    return out


def frames(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def test_the_weights_are_those_of_the_checkpoint(run: Path, bundle: Path) -> None:
    trained, released = (
        load_file(checkpoint_of(run) / "backbone.safetensors"),
        load_file(bundle / "model.safetensors"),
    )
    assert trained.keys() == released.keys()
    assert all(torch.equal(trained[name], released[name]) for name in trained)


def test_the_same_run_released_twice_gives_the_same_bytes(
    run: Path, bundle: Path, tmp_path: Path
) -> None:
    identity = write_bundle(run, tmp_path / "again", checkpoint=checkpoint_of(run))
    assert identity == ausl_dist.load_backbone(bundle).info.identity
    for name in [*read_sums(bundle), "SHA256SUMS"]:
        assert (bundle / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_bundle_named_by_its_content_has_the_same_name_each_time(
    run: Path, tmp_path: Path
) -> None:
    first, again = (
        write_named_bundle(run, tmp_path / "bundles", checkpoint=checkpoint_of(run))
        for _ in range(2)
    )
    assert first == again
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    assert (
        first.name
        == f"tiny-7-{sha256_of(first / 'SHA256SUMS')[:12]}"
        == ausl_dist.load_backbone(first).info.release
    )
    other = write_named_bundle(
        run, tmp_path / "bundles", checkpoint=checkpoint_of(run), licence="cc-by-4.0"
    )
    assert other != first


def test_a_video_network_is_released_without_promising_timm_what_it_cannot_load(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path, name="resnet18_2d3d")
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    backbone = ausl_dist.load_backbone(tmp_path / "bundle")
    assert backbone.features(frames(3)).frames.shape == (3, 256)
    assert "architecture" not in read_json(tmp_path / "bundle" / "config.json")
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "library_name: ausl_dist" in card
    assert "create_model" not in card
    assert "each frame alone" in card


@pytest.mark.parametrize("name", [TINY, "vit_tiny_patch16_224", "convnext_atto"])
def test_plain_timm_loads_the_folder_and_gives_the_same_features(
    name: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path, name=name, size=64)
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    net = import_timm().create_model(f"local-dir:{tmp_path / 'bundle'}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        ours, theirs = ausl_dist.load_backbone(tmp_path / "bundle")(images), net(images)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_features_of_a_clip_are_the_same_to_the_bit_in_any_company_and_as_a_stream(
    bundle: Path,
) -> None:
    backbone = ausl_dist.load_backbone(bundle)
    clips = [frames(21, seed) for seed in range(3)]
    alone = backbone.features(clips[1])
    together = [backbone.features(clip) for clip in clips][1]
    streamed = backbone.features(
        FaceFrame(0, i, i / 25, pixels) for i, pixels in enumerate(clips[1])
    )
    assert torch.equal(alone.frames, together.frames)
    assert torch.equal(alone.frames, streamed.frames)
    assert alone.frames.shape == (21, backbone.dim)
    torch.testing.assert_close(alone.clip, alone.frames.mean(0))
    with torch.inference_mode():
        torch.testing.assert_close(alone.frames, backbone(clips[1]), atol=1e-5, rtol=1e-5)


def test_any_flipped_byte_in_any_file_is_refused(tmp_path: Path) -> None:
    # A bundle with everything that one can hold: head, exports, evaluation, detection models.
    run = make_run(tmp_path, action_units={"units": [1, 12]})
    copy = tmp_path / "bundle"
    write_bundle(run, copy, checkpoint=checkpoint_of(run), exports=["float16"])
    for name in ("evaluation/world/report.json", "evaluation/world/report.md", *model_files()):
        write_atomically(copy / name, "stands for what it is called")
    write_sums(copy)
    names = [path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()]
    assert len(names) >= 14
    random = np.random.default_rng(0)
    for name in names:
        original = (copy / name).read_bytes()
        for position in {0, len(original) - 1, *random.integers(0, len(original), 4).tolist()}:
            changed = bytearray(original)
            changed[position] ^= 1 << int(random.integers(8))
            (copy / name).write_bytes(changed)
            with pytest.raises(BundleError):
                ausl_dist.load_backbone(copy)
        (copy / name).write_bytes(original)
    ausl_dist.load_backbone(copy)


def test_every_bit_of_the_sums_file_counts(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    original = (copy / "SHA256SUMS").read_bytes()
    for bit in range(8 * 130):  # the first lines
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << bit % 8
        (copy / "SHA256SUMS").write_bytes(changed)
        with pytest.raises(BundleError):
            ausl_dist.load_backbone(copy)


def test_a_missing_file_and_a_foreign_folder_are_told_apart_from_damage(
    bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "corpus.json").unlink()
    with pytest.raises(BundleError, match=r"corpus\.json is missing"):
        ausl_dist.load_backbone(copy)
    with pytest.raises(BundleError, match="not a released backbone"):
        ausl_dist.load_backbone(tmp_path)
    with pytest.raises(BundleError, match="not a folder"):
        ausl_dist.load_backbone(tmp_path / "nowhere")


def test_a_bundle_of_another_format_names_the_version_to_install(
    bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["ausl_dist"] |= {"format": 99, "version": "7.0"}
    (copy / "config.json").write_text(json.dumps(config))
    write_sums(copy)
    with pytest.raises(BundleError, match=r"install ausl_dist 7\.0"):
        ausl_dist.load_backbone(copy)


def test_loading_never_unpickles(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    ausl_dist.load_backbone(bundle)


def test_it_stays_frozen_and_in_eval_mode(bundle: Path) -> None:
    backbone = ausl_dist.load_backbone(bundle)
    before = backbone.features(frames(3)).frames
    backbone.train()
    assert torch.equal(backbone.features(frames(3)).frames, before)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_frames_of_another_size_are_refused_with_what_to_do(bundle: Path) -> None:
    with pytest.raises(ValueError, match=r"\(3, 32, 32\).*preprocess"):
        ausl_dist.load_backbone(bundle).features(torch.zeros(2, 3, 16, 16))


def test_the_card_says_what_it_is_made_of_and_that_nothing_was_measured(bundle: Path) -> None:
    from huggingface_hub import ModelCard

    card = (bundle / "README.md").read_text()
    read = ModelCard(card).data  # as the hub will
    assert (read.license, read.library_name, read.pipeline_tag) == (
        "other",
        "timm",
        "image-feature-extraction",
    )
    assert "| 3 clips of main | CC0 |" in card
    assert "No evaluation was run" in card


def add_evaluation(run: Path, weights_sha256: str) -> str:
    table = "| ICC(3,1) | mean |\n| pretrained | 0.4 |\n| constant | 0.0 |\n"
    folder = run / "evaluation" / "world"
    folder.mkdir(parents=True)
    (folder / "report.md").write_text(table)
    (folder / "report.json").write_text(
        json.dumps({"backbone": {"weights_sha256": weights_sha256}})
    )
    (folder / "predictions-pretrained.csv").write_text("labels that are not ours to pass on")
    return table


def test_scores_come_with_their_baselines_and_without_the_labels(
    run: Path, bundle: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    table = add_evaluation(copy, sha256_of(bundle / "model.safetensors"))
    write_bundle(copy, tmp_path / "bundle", checkpoint=checkpoint_of(copy))
    assert table in (tmp_path / "bundle" / "README.md").read_text()
    assert set(read_sums(tmp_path / "bundle")) >= {
        "evaluation/world/report.json",
        "evaluation/world/report.md",
    }
    assert not list((tmp_path / "bundle").rglob("*.csv"))


def test_the_card_shows_what_the_alignment_meter_of_an_evaluation_found() -> None:
    found = [
        {"kind": "none", "amount": 0.0, "score": 0.4},
        {"kind": "shift right", "amount": 0.05, "score": 0.31},
    ]
    table = misplaced_scores({"main_score": "icc", "alignment": found})
    assert "| none 0 | 0.400 |\n| shift right 0.05 | 0.310 |" in table
    assert misplaced_scores({"main_score": "icc", "alignment": []}) == ""


def test_scores_of_other_weights_are_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    add_evaluation(copy, "0" * 64)
    with pytest.raises(ValueError, match="other weights"):
        write_bundle(copy, tmp_path / "bundle", checkpoint=checkpoint_of(copy))
    write_bundle(copy, tmp_path / "bundle", checkpoint=checkpoint_of(copy), evaluations={})


def test_a_folder_with_something_else_in_it_is_not_overwritten(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no bundle"):
        write_bundle(run, tmp_path, checkpoint=checkpoint_of(run))
    assert (tmp_path / "thesis.txt").exists()


def test_only_a_bundle_and_nothing_beside_it_is_replaced(run: Path, tmp_path: Path) -> None:
    """Many a project has a config.json, and somebody may keep notes beside a bundle."""
    other, bundle = tmp_path / "other", tmp_path / "bundle"
    other.mkdir()
    (other / "config.json").write_text("{}")
    write_bundle(run, bundle, checkpoint=checkpoint_of(run))
    write_bundle(run, bundle, checkpoint=checkpoint_of(run))
    (bundle / "notes.txt").write_text("years of work")
    for folder, kept in ((other, "config.json"), (bundle, "notes.txt")):
        with pytest.raises(ValueError, match=kept):
            write_bundle(run, folder, checkpoint=checkpoint_of(run))
        assert (folder / kept).exists()


@pytest.mark.parametrize("report", ["[]", "1", "{}", '{"backbone": 1}'])
def test_an_evaluation_whose_report_is_none_of_ours_is_refused(
    report: str, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text(report)
    (tmp_path / PROBE_NAME).touch()
    for choice in ({"evaluations": {"a": tmp_path}}, {"head": tmp_path}):
        with pytest.raises(ValueError, match=r"report\.json|other weights|this version"):
            write_bundle(run, tmp_path / "b", checkpoint=checkpoint_of(run), **choice)  # type: ignore[arg-type]


def test_a_corpus_aligned_otherwise_is_refused(run: Path, tmp_path: Path) -> None:
    statement = {"detector": "other", "alignment": "ffhq", "fps": 25}
    with pytest.raises(ValueError, match="aligned with ffhq"):
        write_bundle(
            run, tmp_path / "bundle", checkpoint=checkpoint_of(run), corpora={"main": statement}
        )


def test_a_run_that_has_not_saved_yet_is_told_so(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ValueError, match="no complete checkpoint yet"):
        write_bundle(copy, tmp_path / "bundle")


def test_the_teacher_is_released_on_demand_and_its_absence_is_told(
    run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(ValueError, match="holds no teacher"):
        write_bundle(
            copy, tmp_path / "bundle", checkpoint=checkpoint_of(copy), weights="teacher"
        )
    student = load_file(checkpoint_of(copy) / "backbone.safetensors")
    teacher = {f"backbone.net.{name}": tensor * 2 for name, tensor in student.items()}
    save_file(
        teacher | {"objectives.clp.head": torch.zeros(1)},
        checkpoint_of(copy) / "teacher.safetensors",
    )
    write_bundle(copy, tmp_path / "bundle", checkpoint=checkpoint_of(copy), weights="teacher")
    assert torch.equal(
        load_file(tmp_path / "bundle" / "model.safetensors")["bn1.weight"],
        2 * student["bn1.weight"],
    )


def test_a_learnt_readout_travels_with_the_weights(tmp_path: Path) -> None:
    run = make_run(tmp_path, name="small_conv", size=48, readout={"kind": "learnt", "dim": 32})
    out = tmp_path / "bundle"
    write_bundle(run, out, checkpoint=checkpoint_of(run), exports=["onnx"])
    trained = load_file(checkpoint_of(run) / "backbone.safetensors")
    assert not any(name.startswith("readout.") for name in load_file(out / "model.safetensors"))
    loaded = ausl_dist.load_backbone(out)
    assert loaded.info.backbone.readout.kind == "learnt"
    images = torch.randn(2, 3, 48, 48)
    features = loaded.features(images).frames
    assert features.shape == (2, 32)
    again = build_backbone(loaded.info.backbone).eval()
    again.load_weights(trained)
    torch.testing.assert_close(features, again(images)[0])
    assert "readout of the map: learnt" in (out / "README.md").read_text()
    # another readout is another release: its evaluation belongs to it alone
    before = weights_sha256(out)
    save_file(
        {n: t + 1 for n, t in load_file(out / "readout.safetensors").items()},
        out / "readout.safetensors",
    )
    assert weights_sha256(out) != before
    with pytest.raises(BundleError, match="readout"):
        ausl_dist.load_backbone(out)

"""Action-unit scores of a bundle must be those of the head that was trained, under the right
names, or not be there.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

import ausl_dist
from ausl_dist.files import sha256_of
from ausl_dist.objectives.action_units import ActionUnits
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.faces import FaceFrame
from ausl_dist.release.head import Head
from ausl_dist.release.over_time import Context, OverTime
from ausl_dist.release.verify import BundleError, write_sums
from tests.support.run_folders import SIZE, checkpoint_of, complete, make_run

UNITS = [1, 4, 12]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def release(folder: Path, head: Path | str = "run", **objective: Any) -> Path:
    run = make_run(folder, action_units={"units": UNITS, **objective})
    write_bundle(run, folder / "bundle", checkpoint=checkpoint_of(run), head=head)
    return folder / "bundle"


@pytest.mark.parametrize(
    ("task", "unit"),
    [("detection", "probability"), ("intensity", "intensity"), ("ordinal", "intensity")],
)
def test_scores_are_those_of_the_objective_that_was_trained(
    task: str, unit: str, tmp_path: Path
) -> None:
    bundle = release(tmp_path, task=task)
    features = ausl_dist.load_backbone(bundle).features(torch.randn(5, 3, SIZE, SIZE))
    objective = ActionUnits(feature_dim=512, units=UNITS, task=task)
    trained = load_file(checkpoint_of(tmp_path / "run") / "objectives.safetensors")
    objective.load_state_dict(
        {name.removeprefix("units."): tensor for name, tensor in trained.items()}
    )
    output = objective.head(features.frames[None]).unflatten(-1, (len(UNITS), -1))  # 1 T K L
    _, wanted = objective._errors(output, torch.zeros(output.shape[:3]))
    scores = features.action_units
    assert scores is not None
    torch.testing.assert_close(
        scores.values, wanted[0].detach().clamp(0, 5), atol=1e-5, rtol=1e-5
    )
    assert (scores.numbers, scores.unit) == ((1, 4, 12), unit)
    assert scores.names == ("inner brow raiser", "brow lowerer", "lip corner puller")
    assert scores.columns == (f"AU01_{unit}", f"AU04_{unit}", f"AU12_{unit}")
    assert "| 12 | lip corner puller |" in (bundle / "README.md").read_text()


def test_a_score_does_not_change_with_the_frames_beside_it(tmp_path: Path) -> None:
    backbone = ausl_dist.load_backbone(release(tmp_path))
    frames = torch.randn(9, 3, SIZE, SIZE)
    together, alone = (
        backbone.features(frames).action_units,
        backbone.features(frames[:2]).action_units,
    )
    assert together is not None
    assert alone is not None
    assert torch.equal(together.values[:2], alone.values)


def test_without_a_head_there_are_no_scores_and_the_card_says_so(tmp_path: Path) -> None:
    bundle = release(tmp_path, head="none")
    backbone = ausl_dist.load_backbone(bundle)
    assert backbone.features(torch.randn(2, 3, SIZE, SIZE)).action_units is None
    assert backbone.score_columns == ()
    assert "has no head" in (bundle / "README.md").read_text()


@pytest.mark.parametrize(("task", "cells"), [("detection", 1), ("ordinal", 2)])
def test_a_recurrent_head_gives_the_scores_of_its_training_windows(
    task: str, cells: int, tmp_path: Path
) -> None:
    recurrent: dict[str, Any] = {"context": "gru", "width": 8, "frames": 4, "stride": 2}
    recurrent["cells"] = cells
    bundle = release(tmp_path, task=task, **recurrent)
    backbone = ausl_dist.load_backbone(bundle)
    frames = torch.randn(23, 3, SIZE, SIZE)
    scores = backbone.features(frames).action_units
    assert scores is not None
    objective = ActionUnits(feature_dim=512, units=UNITS, task=task, **recurrent)  # type: ignore[arg-type]
    trained = load_file(checkpoint_of(tmp_path / "run") / "objectives.safetensors")
    objective.load_state_dict(
        {name.removeprefix("units."): tensor for name, tensor in trained.items()}
    )
    maps = backbone.backbone(frames)[1][None]
    # windows of 4 frames, every second one, each beginning with an empty state
    for start in (
        0,
        1,
        8,
        9,
    ):
        window = list(range(start, start + 8, 2))
        features = objective._features(
            SimpleNamespace(maps=lambda view, offsets, window=window: maps[:, window])
        )  # type: ignore[arg-type]
        output = objective.head(features).unflatten(-1, (len(UNITS), -1))
        _, wanted = objective._errors(output, torch.zeros(output.shape[:3]))
        torch.testing.assert_close(
            scores.values[window], wanted[0].detach().clamp(0, 5), atol=1e-5, rtol=1e-5
        )
    assert "looks at the frames before" in (bundle / "README.md").read_text()


def test_a_recurrent_head_keeps_people_apart_and_forgets_where_frames_are_missing(
    tmp_path: Path,
) -> None:
    backbone = ausl_dist.load_backbone(
        release(tmp_path, context="gru", width=8, frames=100, stride=1)
    )
    pixels = torch.randn(40, 3, SIZE, SIZE)

    def scores(*faces: tuple[int, int]) -> dict[tuple[int, int], torch.Tensor]:
        found = backbone.features(
            [
                FaceFrame(track, frame, frame / 25, pixels[20 * track + frame])
                for track, frame in faces
            ]
        )
        assert found.action_units is not None
        return dict(
            zip(
                zip(found.track.tolist(), found.number.tolist(), strict=True),
                found.action_units.values,
                strict=True,
            )
        )

    alone = scores(*((0, frame) for frame in range(18)))
    beside = scores(*((track, frame) for frame in range(18) for track in (0, 1)))
    for row, score in alone.items():
        torch.testing.assert_close(beside[row], score)
    broken = scores(*((0, frame) for frame in range(18) if frame != 8))
    fresh = scores(*((0, frame) for frame in range(9, 18)))
    torch.testing.assert_close(broken[0, 12], fresh[0, 12])
    assert not torch.allclose(broken[0, 12], alone[0, 12], atol=1e-6)


def test_a_checkpoint_without_the_trained_head_is_told_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, action_units={"units": UNITS})
    (checkpoint_of(run) / "objectives.safetensors").unlink()
    complete(checkpoint_of(run))
    with pytest.raises(ValueError, match="holds no head of units"):
        write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))


def evaluation(folder: Path, weights_sha256: str) -> Path:
    """What tools/evaluate.py leaves of two folds: probes 512 x 3 that add up to known scores."""
    folder.mkdir()
    report = {
        "task": "intensity",
        "action_units": UNITS,
        "subjects": ["a", "b", "c"],
        "corpus": {"name": "drawn"},
    }
    (folder / "report.json").write_text(
        json.dumps({**report, "backbone": {"weights_sha256": weights_sha256}})
    )
    bias = np.array([[0.0, 2.0, 7.0], [1.0, 4.0, 9.0]])
    save_arrays({"weight": np.zeros((2, 512, 3)), "bias": bias}, folder / "probe.safetensors")
    return folder


def test_a_probe_of_an_evaluation_becomes_the_head(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    probe = evaluation(tmp_path / "probe", sha256_of(tmp_path / "bundle" / "model.safetensors"))
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run), head=probe)
    scores = (
        ausl_dist.load_backbone(tmp_path / "bundle")
        .features(torch.randn(2, 3, SIZE, SIZE))
        .action_units
    )
    assert scores is not None
    assert scores.values.tolist() == [[0.5, 3.0, 5.0]] * 2
    assert (
        "linear probe on the labels of drawn (3 identities)"
        in (tmp_path / "bundle" / "README.md").read_text()
    )


def test_a_probe_of_other_weights_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(ValueError, match="other weights"):
        write_bundle(
            run,
            tmp_path / "bundle",
            checkpoint=checkpoint_of(run),
            head=evaluation(tmp_path / "probe", "0" * 64),
        )


def test_a_head_that_does_not_fit_the_backbone_is_refused(tmp_path: Path) -> None:
    bundle = release(tmp_path)
    save_file(
        {"weight": torch.zeros(3, 16), "bias": torch.zeros(3)}, bundle / "head.safetensors"
    )
    write_sums(bundle)
    with pytest.raises(BundleError, match="width 16"):
        ausl_dist.load_backbone(bundle)


def test_a_head_that_nobody_vouches_for_is_not_used(tmp_path: Path) -> None:
    bundle = release(tmp_path)
    listed = [
        line
        for line in (bundle / "SHA256SUMS").read_text().splitlines(keepends=True)
        if "head." not in line
    ]
    (bundle / "SHA256SUMS").write_text("".join(listed))
    assert ausl_dist.load_backbone(bundle).head is None
    (bundle / "SHA256SUMS").write_text(
        "".join(line for line in listed if "model.safetensors" not in line)
    )
    with pytest.raises(BundleError, match=r"does not name model\.safetensors"):
        ausl_dist.load_backbone(bundle)


def test_a_recurrent_head_reads_the_map_whatever_the_readout_makes_of_it() -> None:
    over_time = OverTime(6, 8, Context(4, 2))
    context = {"context": Context(4, 2), "over_time": over_time.state_dict()}
    head = Head.of("intensity", (12,), "a test", torch.zeros(1, 8), torch.zeros(1), **context)  # type: ignore[arg-type]
    built = head.built_on(24, 6)  # a readout of four cells
    assert built.over_time is not None
    with pytest.raises(ValueError, match="on maps of width 24"):
        head.built_on(24, 24)

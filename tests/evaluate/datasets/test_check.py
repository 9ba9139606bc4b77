"""A damaged copy must be noticed before a day of training, and a right one must not be
suspected.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.evaluate.datasets import DATA_SETS
from ausl_dist.evaluate.datasets.check import check
from ausl_dist.evaluate.datasets.examples import write_tree
from ausl_dist.evaluate.datasets.lists import as_listed, read_list
from ausl_dist.evaluate.protocol import ProtocolSettings, read_labels
from tests.support.drawn_faces import drawn_faces
from tools import verify_labels


def wrong(name: str, root: Path) -> list[str]:
    return [
        finding.text for finding in check(DATA_SETS[name], root) if finding.level == "wrong"
    ]


@pytest.mark.parametrize(
    "name",
    ["bp4d", "bp4d_plus", "disfa", "disfa_plus", "gft", "aff_wild2", "ck_plus", "emotionet"],
)
def test_a_right_copy_is_not_suspected(name: str, tmp_path: Path) -> None:
    subjects = {
        "disfa": "SN001",
        "disfa_plus": "SN001",
        "bp4d": "F001",
        "bp4d_plus": "F001",
    }.get(name, "S005")
    write_tree(name, tmp_path, drawn_faces([subjects]))
    assert wrong(name, tmp_path) == []


def test_pictures_counted_from_zero_beside_labels_counted_from_one_are_noticed(
    tmp_path: Path,
) -> None:
    write_tree("bp4d_intensity", tmp_path, drawn_faces(["F001"]))
    folder = tmp_path / "F001" / "T1"
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"{int(path.stem) - 1:04d}.jpg")
    assert any(
        "first picture has no label" in text for text in wrong("bp4d_intensity", tmp_path)
    )


def test_labels_one_frame_late_on_a_video_are_noticed_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # On DISFA this changes 0.25 % of the labels: no score shows it, only the ends do.
    write_tree("bp4d_plus", tmp_path, drawn_faces(["F001"]))
    monkeypatch.setattr(sys, "argv", ["verify_labels", "bp4d_plus", str(tmp_path)])
    assert verify_labels.main() == 0
    path = tmp_path / "AUCoding" / "AU_OCC" / "F001_T1.csv"
    header, *rows = path.read_text().splitlines()
    late = [",".join([str(int(row.split(",")[0]) + 1), *row.split(",")[1:]]) for row in rows]
    path.write_text("\n".join([header, *late]))
    capsys.readouterr()
    assert verify_labels.main() == 1
    assert (
        "! F001_T1: labels run one frame past the end of F001_T1.mp4 and leave its first without: "
        "they are one frame off" in (capsys.readouterr().out)
    )


def test_a_video_that_is_shorter_than_its_labels_is_noticed(tmp_path: Path) -> None:
    write_tree("disfa", tmp_path, drawn_faces(["SN001"], frames=12))
    write_tree("disfa", tmp_path / "short", drawn_faces(["SN001"], frames=9))
    shutil.copy(
        *(
            root / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
            for root in (tmp_path / "short", tmp_path)
        )
    )
    assert any("3 frames past the end" in text for text in wrong("disfa", tmp_path))


def test_one_camera_copied_over_the_other_is_noticed(tmp_path: Path) -> None:
    write_tree("disfa", tmp_path, drawn_faces(["SN001"]))
    left = tmp_path / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
    shutil.copy(left, tmp_path / "Videos_RightCamera" / "RightVideoSN001_comp.avi")
    assert any("cameras are mixed up" in text for text in wrong("disfa", tmp_path))


def test_strange_subjects_and_missing_videos_are_noticed(tmp_path: Path) -> None:
    write_tree("disfa", tmp_path, drawn_faces(["SN033"]))
    assert any("SN033" in text for text in wrong("disfa", tmp_path))
    shutil.rmtree(tmp_path / "Videos_LeftCamera")
    (tmp_path / "Videos_LeftCamera").mkdir()
    assert any("put videos or pictures" in text for text in wrong("disfa", tmp_path))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_tree("bp4d", tmp_path / "bp4d", drawn_faces(["F001", "M002"]))
    return tmp_path / "bp4d"


LABELS = "1 0 0 0 0 0 0 0 0 0 0 0", "0 0 0 0 0 0 0 0 0 0 0 1", "0 0 9 0 0 0 0 0 0 0 0 0"
PATHS = "F001/T1/0003.jpg", "F001/T1/9999.jpg", "M002/T1/0004.jpg"


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        ("BP4D_train_img_path_fold1.txt", "BP4D_train_label_fold1.txt"),
        ("BP4D_combine_1_2_path.txt", "BP4D_combine_1_2_AUoccur.txt"),
    ],
)
def test_lists_of_me_graphau_and_jaa_net(paths: str, labels: str, images: Path) -> None:
    (images / paths).write_text("\n".join(PATHS))
    (images / labels).write_text("\n".join(LABELS))
    first, second = read_list(images / paths, "bp4d", images)
    assert (first.subject, second.subject) == ("bp4d:F001", "bp4d:M002")
    assert first.images == (images / PATHS[0],)
    assert first.missing == 1
    assert first.labels[0, 0] == 1
    assert second.labels[0, 2] == -1


def test_lists_of_fg_net_and_libreface(images: Path) -> None:
    (images / "train.csv").write_text(f"image_path,au1,au12\n{PATHS[0]},0,1\n{PATHS[2]},1,0\n")
    first, second = read_list(images / "train.csv", "bp4d", images)
    assert first.action_units == (1, 12)
    np.testing.assert_array_equal([first.labels[0], second.labels[0]], [[0, 1], [1, 0]])
    (images / "train.csv").write_text(f"image_path,au1,au12\n{PATHS[0]},0,5\n")
    assert read_list(images / "train.csv", "bp4d", images)[0].labels.tolist() == [[0, 5]]


def test_lists_of_fmae_name_the_present_units_and_fill_with_999(images: Path) -> None:
    line = {
        "img_path": PATHS[0],
        "AUs": [999, 2, 999, 999, 999, 10, 999, 999, 999, 999, 999, 999],
    }
    (images / "BP4D_train1.json").write_text(json.dumps(line) + "\n")
    (recording,) = read_list(images / "BP4D_train1.json", "bp4d", images)
    present = [
        unit
        for unit, value in zip(recording.action_units, recording.labels[0], strict=True)
        if value == 1
    ]
    assert present == [2, 10]


def test_old_names_of_bp4d_videos_give_the_same_subject(images: Path) -> None:
    (images / "BP4D_train1.json").write_text(
        json.dumps({"img_path": "2F01_T1/frame_3.jpg", "AUs": []}) + "\n"
    )
    assert read_list(images / "BP4D_train1.json", "bp4d", images)[0].subject == "bp4d:F001"


def test_a_list_of_occurrences_of_an_intensity_data_set_is_taken_as_it_is(images: Path) -> None:
    (images / "SN001").mkdir()
    shutil.copy(images / PATHS[0], images / "SN001" / "1.jpg")
    for fold in ("1", "2"):
        (images / f"DISFA_test_img_path_fold{fold}.txt").write_text("SN001/1.jpg\n")
        (images / f"DISFA_test_label_fold{fold}.txt").write_text("0 1 0 0 0 0 0 1\n")
    lists = tuple(str(images / f"DISFA_test_img_path_fold{fold}.txt") for fold in ("1", "2"))
    data_set, recordings = read_labels(
        ProtocolSettings(data="disfa", root=str(images), bundle="x", lists=lists)
    )
    assert (data_set.kind, data_set.positive_from, data_set.action_units) == (
        "occurrence",
        1,
        (1, 2, 4, 6, 9, 12, 25, 26),
    )
    assert len({recording.name for recording in recordings}) == 2
    assert {recording.subject for recording in recordings} == {"disfa:SN001"}
    (images / "train.csv").write_text("image_path,au1\nSN001/1.jpg,4\n")
    (recording,) = read_list(images / "train.csv", "disfa", images)
    assert as_listed(data_set, [recording]).kind == "intensity"
    with pytest.raises(ValueError, match="different action units"):
        as_listed(data_set, [recording, recordings[0]])


def test_lists_of_unequal_length_and_paths_that_lead_away_are_refused(images: Path) -> None:
    paths, labels = images / "x_img_path_fold1.txt", images / "x_label_fold1.txt"
    paths.write_text("\n".join(PATHS))
    labels.write_text(LABELS[0])
    with pytest.raises(ValueError, match="not of one list"):
        read_list(paths, "bp4d", images)
    paths.write_text("../../F001/T1/0003.jpg")
    with pytest.raises(ValueError, match="leads out"):
        read_list(paths, "bp4d", images)

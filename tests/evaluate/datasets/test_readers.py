"""Each test plants one of the traps that made published results differ, and fails without the
reader's handling of it.
"""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ausl_dist.evaluate.compare import CompareSettings, labelled_for
from ausl_dist.evaluate.datasets import DATA_SETS, find_data_set
from ausl_dist.evaluate.datasets.base import Recording, au_columns, clean, images_by_number
from ausl_dist.evaluate.datasets.examples import LabelledFaces, write_tree
from ausl_dist.tables import whole_number
from tests.support.drawn_faces import drawn_faces
from tests.support.evaluation_tables import make_table

NAMES = {
    "bp4d": ["F001", "M018"],
    "bp4d_intensity": ["F001", "M002"],
    "bp4d_plus": ["F001", "M058"],
    "disfa": ["SN001", "SN010"],
    "disfa_plus": ["SN001", "SN003"],
    "gft": ["001A", "001B"],
    "aff_wild2": ["10-60-1280x720_left", "10-60-1280x720_right"],
    "ck_plus": ["S005", "S010"],
    "emotionet": ["N_0000000001_00003", "N_0000000001_00007"],
}


def picture(recording: Recording, row: int) -> np.ndarray:
    """The picture that a reader says belongs to a row, as a consumer would fetch it."""
    if recording.images:
        return cv2.imread(str(recording.images[row]))[:, :, ::-1]
    with av.open(str(recording.video)) as container:
        return next(
            f for i, f in enumerate(container.decode(video=0)) if i == recording.pictures[row]
        ).to_ndarray(format="rgb24")


@pytest.mark.parametrize("name", NAMES)
def test_every_label_comes_with_its_own_picture(name: str, tmp_path: Path) -> None:
    faces = drawn_faces(NAMES[name])
    write_tree(name, tmp_path, faces)
    data_set = find_data_set(name)
    recordings = data_set.read(tmp_path)
    assert recordings
    assert all(recording.action_units == data_set.action_units for recording in recordings)
    for recording in recordings:
        face = face_of(recording, faces, name)
        for row in range(0, len(recording.labels), 3):
            # The source frame that looks most like the picture must be the one with the same
            # labels.
            small = cv2.resize(picture(recording, row), face.frames.shape[2:0:-1]).astype(float)
            nearest = int(np.abs(face.frames.astype(float) - small).mean((1, 2, 3)).argmin())
            wanted = (
                face.of(data_set.action_units)
                if data_set.kind == "intensity"
                else face.present(data_set.action_units)
            )
            known = recording.labels[row] >= 0
            assert recording.labels[row][known].tolist() == wanted[nearest][known].tolist()


def face_of(recording: Recording, faces: dict[str, LabelledFaces], name: str) -> LabelledFaces:
    if name == "emotionet":  # each picture is a subject of its own
        return faces[recording.images[0].stem]
    return faces[recording.subject.split(":")[1]]


def test_bp4d_nine_is_unknown_and_not_positive(tmp_path: Path) -> None:
    write_tree("bp4d", tmp_path, drawn_faces(["F001"]))
    recording = DATA_SETS["bp4d"].read(tmp_path)[0]
    assert recording.labels[-1, 0] == -1
    assert set(np.unique(recording.labels)) <= {-1, 0, 1}


def test_bp4d_only_the_coded_segment_is_used(tmp_path: Path) -> None:
    write_tree("bp4d", tmp_path, drawn_faces(["F001"], frames=12))
    recording = DATA_SETS["bp4d"].read(tmp_path)[0]
    assert [int(path.stem) for path in recording.images] == [2, *range(4, 12)]  # 3 is occluded


def test_bp4d_occluded_frames_are_left_out_though_their_labels_look_like_any(
    tmp_path: Path,
) -> None:
    write_tree("bp4d", tmp_path, drawn_faces(["F001"]))
    path = tmp_path / "AUCoding" / "AU_OCC" / "F001_T1.csv"
    before = DATA_SETS["bp4d"].read(tmp_path)[0]
    lines = [line.split(",") for line in path.read_text().splitlines()]
    lines[4][-1] = "1"  # frame 5
    path.write_text("\n".join(",".join(line) for line in lines))
    after = DATA_SETS["bp4d"].read(tmp_path)[0]
    assert {p.name for p in before.images} - {p.name for p in after.images} == {"0005.jpg"}
    lines[4] = lines[4][:50]
    path.write_text("\n".join(",".join(line) for line in lines))
    with pytest.raises(ValueError, match="line 5: fewer columns"):
        DATA_SETS["bp4d"].read(tmp_path)


def test_bp4d_pictures_are_found_whatever_their_padding(tmp_path: Path) -> None:
    write_tree("bp4d", tmp_path, drawn_faces(["F001"]))
    four, three = DATA_SETS["bp4d"].read(tmp_path)
    assert four.images[0].name == "0002.jpg"
    assert three.images[0].name == "002.jpg"
    assert (four.missing, three.missing) == (0, 0)


def test_two_paddings_of_one_picture_are_refused(tmp_path: Path) -> None:
    for name in ("001.jpg", "0001.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="two paddings"):
        images_by_number(tmp_path)


def test_bp4d_videos_of_the_old_release_are_found_under_their_old_task_numbers(
    tmp_path: Path,
) -> None:
    write_tree("bp4d", tmp_path, drawn_faces(["F001"]))
    for path in (tmp_path / "F001").rglob("*.jpg"):
        path.unlink()
    for name in ("2F01_01.avi", "2F01_03.avi"):  # old codes of T1 and T2
        (tmp_path / name).touch()
    first, second = DATA_SETS["bp4d"].read(tmp_path)
    assert (first.video, second.video) == (tmp_path / "2F01_01.avi", tmp_path / "2F01_03.avi")
    assert first.pictures is not None
    assert first.pictures[0] == 1  # label frame 2 is the second picture


def test_bp4d_plus_columns_are_taken_by_name_not_by_position(tmp_path: Path) -> None:
    faces = drawn_faces(["F001"])
    write_tree("bp4d_plus", tmp_path, faces)
    recording = DATA_SETS["bp4d_plus"].read(tmp_path)[0]
    # column 4 of the file is AU 5, which is 1 everywhere
    assert recording.labels[:, recording.action_units.index(4)].max() == 0
    np.testing.assert_array_equal(recording.labels[:, 0], faces["F001"].present([1])[:, 0])


def test_bp4d_plus_subjects_are_not_those_of_bp4d_and_disfa_plus_subjects_are_those_of_disfa(
    tmp_path: Path,
) -> None:
    subjects = {}
    for name, who in (
        ("bp4d", "F001"),
        ("bp4d_plus", "F001"),
        ("disfa", "SN001"),
        ("disfa_plus", "SN001"),
    ):
        write_tree(name, tmp_path / name, drawn_faces([who]))
        subjects[name] = DATA_SETS[name].read(tmp_path / name)[0].subject
    assert subjects["bp4d"] != subjects["bp4d_plus"]
    assert subjects["disfa"] == subjects["disfa_plus"]


def test_disfa_frames_start_at_one_and_renumbered_labels_are_refused(tmp_path: Path) -> None:
    write_tree("disfa", tmp_path, drawn_faces(["SN001"]))
    recording = DATA_SETS["disfa"].read(tmp_path)[0]
    assert recording.pictures is not None
    assert recording.pictures[0] == 0
    for path in (tmp_path / "ActionUnit_Labels" / "SN001").iterdir():
        cells = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("".join(f"{int(frame) - 1},{value}\n" for frame, value in cells))
    with pytest.raises(ValueError, match="frames start at 0, in DISFA at 1"):
        DATA_SETS["disfa"].read(tmp_path)


def test_occurrence_in_disfa_begins_at_intensity_two() -> None:
    table = make_table()
    settings = CompareSettings(
        task="occurrence", positive_from=DATA_SETS["disfa"].positive_from
    )
    np.testing.assert_array_equal(labelled_for(table, settings, ()).labels, table.labels >= 2)


def test_disfa_left_and_right_camera_are_not_mixed_up(tmp_path: Path) -> None:
    from ausl_dist.evaluate.datasets import disfa

    write_tree("disfa", tmp_path, drawn_faces(["SN001"]))
    left, right = (disfa.read(tmp_path, camera)[0].video for camera in ("Left", "Right"))
    assert left is not None
    assert right is not None
    assert (left.parent.name, right.parent.name) == ("Videos_LeftCamera", "Videos_RightCamera")


@pytest.mark.parametrize("folder", ["Video_LeftCamera", "Videos_LeftCamera"])
@pytest.mark.parametrize("file", ["leftVideoSN001_comp.avi", "LeftVideoSN001_Comp.avi"])
def test_disfa_names_of_other_releases_are_found(
    folder: str, file: str, tmp_path: Path
) -> None:
    write_tree("disfa", tmp_path, drawn_faces(["SN001"]))
    video = tmp_path / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
    video.rename(video.with_name(file))
    (tmp_path / "Videos_LeftCamera").rename(tmp_path / folder)
    assert DATA_SETS["disfa"].read(tmp_path)[0].video == tmp_path / folder / file


def test_only_files_with_published_names_and_suffixes_are_taken(tmp_path: Path) -> None:
    write_tree("disfa", tmp_path / "disfa", drawn_faces(["SN001"]))
    videos = tmp_path / "disfa" / "Videos_LeftCamera"
    beside = (
        "LeftVideoSN001_comp.csv",
        "LeftVideoSN001_comp_of_details.txt",
        "._LeftVideoSN001_comp.avi",
    )
    for name in (
        *beside,
        "LeftVideoSN001_comp_aligned.avi",
        "RightVideoSN001_comp.mp4",
        "Thumbs.db",
    ):
        (videos / name).touch()
    assert (
        DATA_SETS["disfa"].read(tmp_path / "disfa")[0].video
        == videos / "LeftVideoSN001_comp.avi"
    )
    (videos / "LeftVideoSN001_comp.mp4").touch()
    with pytest.raises(ValueError, match="keep one"):
        DATA_SETS["disfa"].read(tmp_path / "disfa")

    write_tree("emotionet", tmp_path / "emotionet", drawn_faces(NAMES["emotionet"]))
    for name in ("aaa.csv", "zzz.xlsx", "._emotionet_facs_24600.xlsx", "openface.csv"):
        (tmp_path / "emotionet" / name).write_text("a,b\n1,2\n")
    assert len(DATA_SETS["emotionet"].read(tmp_path / "emotionet")) == 2

    write_tree("bp4d", tmp_path / "bp4d", drawn_faces(["F001"]))
    for name in ("F001_T1_backup.csv", "._F001_T1.csv", "F001_T1.csv.bak", "notes_T1.csv"):
        (tmp_path / "bp4d" / "AUCoding" / "AU_OCC" / name).write_text("a\n")
    for name in ("._0002.jpg", "0002.csv"):
        (tmp_path / "bp4d" / "F001" / "T1" / name).touch()
    assert len(DATA_SETS["bp4d"].read(tmp_path / "bp4d")) == 2


@pytest.mark.parametrize("name", NAMES)
def test_what_a_system_left_in_every_folder_is_passed_over(name: str, tmp_path: Path) -> None:
    write_tree(name, tmp_path, drawn_faces(NAMES[name]))
    before = DATA_SETS[name].read(tmp_path)
    for path in list(tmp_path.rglob("*")):
        if path.is_file():
            (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
            (path.parent / ".DS_Store").touch()
    after = DATA_SETS[name].read(tmp_path)
    assert [(r.name, r.images, r.video, r.labels.tolist()) for r in after] == [
        (r.name, r.images, r.video, r.labels.tolist()) for r in before
    ]


def test_rows_that_go_by_their_number_have_no_gaps(tmp_path: Path) -> None:
    write_tree("aff_wild2", tmp_path, drawn_faces(["v_left"]))
    path = tmp_path / "AU_Detection_Challenge" / "Train_Set" / "v_left.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "", *lines[3:]]))
    with pytest.raises(ValueError, match="empty line"):
        DATA_SETS["aff_wild2"].read(tmp_path)
    path.write_text("\n".join([*lines, "", ""]))
    assert DATA_SETS["aff_wild2"].read(tmp_path)


@pytest.mark.parametrize(
    "text", ["1\n", "1,1e300\n", f"1,{'9' * 400}\n", "1,0\n1,3\n", "", "1,0,0\n"]
)
def test_a_damaged_label_file_is_a_sentence_with_its_place(text: str, tmp_path: Path) -> None:
    write_tree("disfa", tmp_path, drawn_faces(["SN001"]))
    (tmp_path / "ActionUnit_Labels" / "SN001" / "SN001_au4.txt").write_text(text)
    with pytest.raises(ValueError, match=r"SN001_au4\.txt"):
        DATA_SETS["disfa"].read(tmp_path)


def test_a_disfa_subject_without_a_label_file_is_told(tmp_path: Path) -> None:
    write_tree("disfa", tmp_path, drawn_faces(["SN001"]))
    (tmp_path / "ActionUnit_Labels" / "SN001" / "SN001_au9.txt").unlink()
    with pytest.raises(FileNotFoundError, match="SN001_au9"):
        DATA_SETS["disfa"].read(tmp_path)


def test_aff_wild2_minus_one_is_unknown_and_pictures_without_a_face_are_counted(
    tmp_path: Path,
) -> None:
    write_tree("aff_wild2", tmp_path, drawn_faces(["video1_left"], frames=12))
    recording = DATA_SETS["aff_wild2"].read(tmp_path)[0]
    assert (recording.labels[1] == -1).all()
    assert recording.missing == 2
    # the fifth file is picture 6: rows are joined by number, not by order
    assert recording.images[4].name == "00006.jpg"


def test_two_persons_of_one_video_are_two_subjects(tmp_path: Path) -> None:
    write_tree("aff_wild2", tmp_path, drawn_faces(NAMES["aff_wild2"]))
    assert len({recording.subject for recording in DATA_SETS["aff_wild2"].read(tmp_path)}) == 2


def test_ck_plus_intensity_zero_means_present(tmp_path: Path) -> None:
    faces = drawn_faces(["S005"])
    write_tree("ck_plus", tmp_path, faces)
    labels = DATA_SETS["ck_plus"].read(tmp_path)[0].labels
    assert labels.sum() > 0


def test_emotionet_reads_quoted_columns_from_the_spreadsheet_and_999_is_unknown(
    tmp_path: Path,
) -> None:
    write_tree("emotionet", tmp_path, drawn_faces(NAMES["emotionet"]))
    recordings = DATA_SETS["emotionet"].read(tmp_path)
    assert len(recordings) == 2  # the third row's picture could not be downloaded
    assert all(recording.labels[0, -1] == -1 for recording in recordings)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), (" 1", 1), ("1.0", 1), ("1.0000000e+00", 1), ("'0'", 0), ("-1", -1)],
)
def test_labels_are_numbers_not_text(text: str, value: int) -> None:
    assert whole_number(text, "here") == value


@pytest.mark.parametrize("text", ["", "yes", "0.5", "nan", "inf", "1e400"])
def test_what_is_no_whole_number_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match="line 3"):
        whole_number(text, "line 3")


def test_values_that_a_data_set_cannot_have_are_refused() -> None:
    assert clean([[0, 1, 9, -1, 999]], "occurrence", "here").tolist() == [[0, 1, -1, -1, -1]]
    with pytest.raises(ValueError, match="label 2 in row 1"):
        clean([[2]], "occurrence", "here")
    with pytest.raises(ValueError, match="label 7"):
        clean([[7]], "intensity", "here")


def test_headers_of_all_code_bases_name_the_same_unit() -> None:
    for name in ("1", "AU1", "AU01", "'AU 1'", "AU01_r", "au_1"):
        assert au_columns(["frame", name], "here") == {1: 1}
    with pytest.raises(ValueError, match="two columns for AU 1"):
        au_columns(["1", "AU01"], "here")


def test_a_wrong_folder_is_answered_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="root="):
        DATA_SETS["disfa"].read(tmp_path)
    with pytest.raises(ValueError, match="known: bp4d"):
        find_data_set("dsifa")

"""Labels land on the frames they were given for, and a table that cannot be read stops the
build.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.corpus.labels import LabelError, Labels, LabelTables, labels_digest, thinned
from ausl_dist.corpus.settings import LabelSettings
from tests.support.fuzz import inputs, patience
from tests.support.tables import OPENFACE_HEADER, openface_row


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def labels_of(table: Path, source: str = "a.mp4", **options: int) -> Labels:
    """What one table says of one source."""
    return LabelTables(table, [source], **options).of(source)


def test_one_table_for_all_sources(tmp_path: Path) -> None:
    table = write(
        tmp_path / "labels.csv",
        "source,frame,AU1,AU12\na.mp4,0,1,5\na.mp4,2,0,9\nb/c.mp4,7,-1,\n",
    )
    tables = LabelTables(table, ["a.mp4", "b/c.mp4", "unlabelled.mp4"])
    assert tables.units == (1, 12)
    assert tables.of("a.mp4").rows([0, 1, 2, 2]).tolist() == [
        [1, 5],
        [-1, -1],
        [0, -1],
        [0, -1],
    ]
    assert tables.of("b/c.mp4").rows([7]).tolist() == [[-1, -1]]
    assert tables.of("unlabelled.mp4").rows([0, 1]).tolist() == [[-1, -1], [-1, -1]]


def test_a_folder_in_the_layout_of_aff_wild2(tmp_path: Path) -> None:
    write(tmp_path / "Train_Set" / "video5_left.txt", "AU1,AU2,AU4\n0,1,0\n-1,-1,-1\n1,1,0\n")
    for source in ("video5_left.mp4", "cropped_aligned/video5_left"):
        tables = LabelTables(tmp_path, [source, "cropped_aligned/video5_right"])
        assert tables.of(source).rows([0, 1, 2, 3]).tolist() == [
            [0, 1, 0],
            [-1, -1, -1],
            [1, 1, 0],
            [-1, -1, -1],
        ]


def test_frames_that_are_counted_from_one(tmp_path: Path) -> None:
    table = write(tmp_path / "s.csv", "frame,AU6\n1,0\n2,3\n")
    assert labels_of(table.parent, "s.avi", first_frame=1).rows([0, 1]).tolist() == [[0], [3]]


def test_unit_columns_are_found_by_name_whatever_else_there_is(tmp_path: Path) -> None:
    table = write(
        tmp_path / "s.csv", "\ufeffconfidence,frame, AU01 ,'AU 26',AU_12\n0.5,0,2,3,4.0\n"
    )
    labels = labels_of(table, "s.mp4")
    assert labels.units == (1, 26, 12)
    assert labels.rows([0]).tolist() == [[2, 3, 4]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_in_the_encodings_and_with_the_ends_of_lines_of_all_systems(
    tmp_path: Path, encoding: str, end: str
) -> None:
    text = "source;frame;AU6\nmüller.mp4;1;0\nmüller.mp4;2;3\n".replace("\n", end)
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "a.csv").write_bytes((mark + text).encode(encoding))
    labels = labels_of(tmp_path / "a.csv", "müller.mp4")
    assert labels.rows([0, 1, 2]).tolist() == [[-1], [0], [3]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "frame\n0\n",
        "frame,AU1\n",
        "frame,AU1\n0\n",
        "frame,AU1\n0,7\n",
        "frame,AU1\n0,0.5\n",
        "frame,AU1\nx,1\n",
        "frame,AU1\n-5,1\n",
        "frame,AU1\n99999999999,1\n",
        "frame,AU1\n0," + "1" * 100_000 + "\n",
        "\x00\x01\x02",
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(LabelError, match=r"bad\.csv"):
        labels_of(write(tmp_path / "bad.csv", text), "bad.mp4")


@patience
@settings(deadline=None, max_examples=inputs(100))
@given(
    text=st.text(alphabet=st.sampled_from('frameAUsoc,0123456789-"\n\r .\x00'), max_size=200)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "any.csv", text)
        try:
            labels = labels_of(path, "any.mp4")
        except LabelError:
            return
    assert labels.rows([0]).dtype == np.int8


def test_a_share_of_the_labelled_frames_is_drawn_by_seed_and_source(tmp_path: Path) -> None:
    rows = "".join(
        f"{source},{frame},{frame % 6}\n" for source in ("a", "b") for frame in range(10_000)
    )
    tables = LabelTables(write(tmp_path / "s.csv", "source,frame,AU1\n" + rows), ["a", "b"])
    few = {
        (source, seed): thinned(tables.of(source), source, LabelSettings(share=0.02, seed=seed))
        for source in ("a", "b")
        for seed in (0, 1)
    }
    again = thinned(tables.of("a"), "a", LabelSettings(share=0.02))
    assert again.frames.tolist() == few["a", 0].frames.tolist()
    assert len({tuple(labels.frames) for labels in few.values()}) == 4
    for labels in few.values():
        assert 150 < len(labels.frames) < 250
        assert (labels.values[:, 0] == labels.frames % 6).all()
    unlabelled = sorted(set(range(10_000)) - set(again.frames.tolist()))
    assert (again.rows(unlabelled) == -1).all()
    assert thinned(tables.of("a"), "a", LabelSettings()) is tables.of("a")


def test_a_source_with_other_units_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "frame,AU1\n0,1\n")
    write(tmp_path / "b.csv", "frame,AU2\n0,1\n")
    with pytest.raises(LabelError, match="one list"):
        LabelTables(tmp_path, ["a.mp4", "b.mp4"]).of("b.mp4")


FIRST = "frame,AU1\n0,1\n"
SECOND = "frame,AU1\n0,2\n"


def test_a_table_labels_the_video_of_its_path_and_no_other(tmp_path: Path) -> None:
    write(tmp_path / "F001" / "T1.csv", FIRST)
    write(tmp_path / "F002" / "T1.csv", SECOND)
    sources = ["F001/T1.mp4", "F002/T1.mp4", "F003/T1.mp4"]
    for prefix in ("", "videos/2026/"):
        tables = LabelTables(tmp_path, [prefix + source for source in sources])
        assert [tables.of(prefix + source).rows([0]).tolist() for source in sources] == [
            [[1]],
            [[2]],
            [[-1]],
        ]


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("T1", ["F001/T1.mp4", "F002/T1.mp4"]),
        ("a/T1", ["x/a/T1.mp4", "y/a/T1.mkv"]),
        ("T1", ["T1.mp4", "T1.avi"]),
    ],
)
def test_a_name_that_fits_two_sources_is_refused(
    tmp_path: Path, name: str, sources: list[str]
) -> None:
    write(tmp_path / "folder" / f"{name}.csv", FIRST)
    write(tmp_path / "one.csv", f"source,frame,AU1\n{name},0,1\n")
    for path in (tmp_path / "folder", tmp_path / "one.csv"):
        with pytest.raises(LabelError) as refusal:
            LabelTables(path, sources)
        assert all(source in str(refusal.value) for source in sources)


def test_two_tables_of_one_source_are_refused(tmp_path: Path) -> None:
    for part in ("Train_Set", "Validation_Set"):
        write(tmp_path / "split" / part / "video1.txt", "AU1\n0\n")
        write(tmp_path / "named" / f"{part}.csv", "source,frame,AU1\nvideo1.mp4,0,1\n")
    for folder in ("split", "named"):
        with pytest.raises(LabelError, match=r"Train_Set.*Validation_Set"):
            LabelTables(tmp_path / folder, ["video1.mp4"])


@pytest.mark.parametrize(
    "sources", [["F002/T1.mp4"], ["F001/T2.mp4", "T3.mp4"], ["F001-T1.mp4"], ["f001/t1.mp4"]]
)
def test_tables_that_meet_no_source_stop_with_both_names(
    tmp_path: Path, sources: list[str]
) -> None:
    write(tmp_path / "folder" / "F001" / "T1.csv", FIRST)
    write(tmp_path / "one.csv", "video,frame,AU1\nF001/T1,0,1\n")
    for path in (tmp_path / "folder", tmp_path / "one.csv"):
        with pytest.raises(LabelError) as refusal:
            LabelTables(path, sources)
        assert "F001/T1" in str(refusal.value)
        assert sources[0] in str(refusal.value)


def test_tables_of_other_videos_are_named_and_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.csv", FIRST)
    write(tmp_path / "README.txt", "Labels of the first session.\nMade by hand.\n")
    match = LabelTables(tmp_path, ["a.mp4", "c.mp4"]).match
    assert str(match).startswith("labels for 1 of 2 sources; 2 names")
    assert str(match).endswith("no source of this build: README, b")


@pytest.mark.parametrize(
    "frame", ["Frame", "FRAME", "frame_id", "Frame Number", "frameIdx", " frame"]
)
@pytest.mark.parametrize(
    "source", ["source", "Video", "FILE", "file_name", "video-name", "Name"]
)
def test_columns_are_known_by_name_whatever_their_case(
    tmp_path: Path, frame: str, source: str
) -> None:
    table = write(
        tmp_path / "t.csv", f"AU01,{frame},{source}\n1,20,a\n2,21,a.mp4\n3,22,x/a.mp4\n"
    )
    assert labels_of(table, "x/a.mp4").rows([0, 1, 2, 20, 21, 22]).ravel().tolist() == [
        *(-1, -1, -1, 1, 2, 3)
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_tables_of_other_spreadsheets_are_read(tmp_path: Path, delimiter: str) -> None:
    text = "source,frame,AU1,AU2\na.mp4,3,1,0\n".replace(",", delimiter)
    assert labels_of(write(tmp_path / "t.csv", text)).rows([3]).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("frme,AU1", "20,1"),
        ("frame,AU1,mood", "20,1,4"),
        ("source,fr,AU1", "a.mp4,20,1"),
        ("clip_no,frame,AU1", "1,20,1"),
        ("frame,AU1,AU1_x", "20,1,1"),
    ],
)
def test_a_column_that_is_not_known_is_refused_with_those_that_are(
    tmp_path: Path, header: str, row: str
) -> None:
    with pytest.raises(LabelError, match=r"is not known\. Known are .*frame.*AU01|AU01.*frame"):
        labels_of(write(tmp_path / "a.csv", f"{header}\n{row}\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frame,AU1\n3,1\n3,2\n", "frame 3 is given twice"),
        ("source,frame,AU1\na.mp4,3,1\na.mp4,3,2\n", "frame 3 is given twice"),
        ("frame,AU1,AU01\n3,1,1\n", "'AU1' and 'AU01' are the same"),
        ("frame,AU12,'AU 12'\n3,1,1\n", "are the same"),
        ("frame,Frame_ID,AU1\n3,3,1\n", "are the same"),
        ("video,source,frame,AU1\na,a,3,1\n", "are the same"),
        ("timestamp,AU1\n0.2,1\n", "no column names the frame"),
        ("source,AU1\na.mp4,1\n", "no column names the frame"),
        ("AU1\n1\n\n0\n", "line 3 is empty"),
        ("frame,face_id,AU1\n3,0,1\n4,1,1\n", "several faces"),
        ("frame,AU1\n3,1e300\n", "too large"),
        ("frame,AU1\n1e300,1\n", "too large"),
        (f"frame,AU1\n{'1' * 400},1\n", "not a number"),
        ("frame,AU1_r,AU2\n1,1,1\n", "mixed"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(LabelError, match=says):
        labels_of(write(tmp_path / "a.csv", text))


def test_a_frame_given_twice_with_equal_values_is_given_once(tmp_path: Path) -> None:
    labels = labels_of(write(tmp_path / "a.csv", "frame,AU1\n3,1\n1,2\n3,1\n"))
    assert (labels.frames.tolist(), labels.values.tolist()) == ([1, 3], [[2], [1]])


def test_openface_output_is_read_as_what_it_is(tmp_path: Path) -> None:
    rows = [
        openface_row(1, {"AU01_r": 0.49, "AU12_r": 2.5, "AU28_c": 1}),
        openface_row(2, {"AU01_r": 4.61, "AU12_r": 5.0, "AU01_c": 1}),
        openface_row(3, {}, success=0),
    ]
    labels = labels_of(write(tmp_path / "a.csv", "\n".join([OPENFACE_HEADER, *rows]) + "\n"))
    assert labels.units == (1, 12)
    assert labels.rows([0, 1, 2, 3]).tolist() == [[0, 3], [5, 5], [-1, -1], [-1, -1]]
    labels.check("a.mp4", 3)


def test_units_of_one_side_are_read_and_both_make_the_unit(tmp_path: Path) -> None:
    table = write(
        tmp_path / "a.csv", "frame,AU6,L12,AU12_right,AU14R\n0,1,3,0,2\n1,0,-1,2,0\n2,0,5,9,1\n"
    )
    labels = labels_of(table)
    assert labels.units == (6, 1012, 2012, 2014, 12)
    assert labels.values.tolist() == [[1, 3, 0, 2, 3], [0, -1, 2, 0, -1], [0, 5, -1, 1, 5]]


def test_presence_alone_is_read_where_openface_wrote_nothing_else(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "frame, timestamp, AU01_c, AU28_c\n0, 0.0, 1, 0\n")
    assert labels_of(table).rows([0]).tolist() == [[1, 0]]


@pytest.mark.parametrize("frames", [(20, 21), (50,)])
def test_a_table_that_labels_no_frame_of_its_video_is_refused(
    tmp_path: Path, frames: tuple[int, ...]
) -> None:
    table = write(
        tmp_path / "a.csv", "frame,AU1\n" + "".join(f"{frame},1\n" for frame in frames)
    )
    labels = labels_of(table)
    labels.check("a.mp4", frames[0] + 1)
    with pytest.raises(LabelError, match=r"a\.csv.*a\.mp4, which has 20: not one"):
        labels.check("a.mp4", 20)


def test_a_table_that_counts_from_one_is_told_from_one_that_counts_from_zero(
    tmp_path: Path,
) -> None:
    def table(frames: Iterable[int]) -> Path:
        rows = "".join(f"{frame},1\n" for frame in frames)
        return write(tmp_path / "a.csv", f"frame,AU1\n{rows}")

    with pytest.raises(LabelError, match="--first-frame 1"):
        labels_of(table(range(1, 21))).check("a.mp4", 20)
    labels_of(table(range(1, 21)), first_frame=0).check("a.mp4", 20)
    labels_of(table(range(1, 21)), first_frame=1).check("a.mp4", 20)
    labels_of(table(range(20))).check("a.mp4", 20)
    labels_of(table(range(21))).check("a.mp4", 20)


def test_images_that_count_from_one_need_a_word_on_what_a_table_calls_them(
    tmp_path: Path,
) -> None:
    """Frame 10 of a sparse table would be image 11."""
    table = write(tmp_path / "a.csv", "frame,AU1\n10,1\n20,0\n")
    with pytest.raises(LabelError, match=r"--first-frame 1.*--first-frame 0"):
        labels_of(table).check_images("a", 1)
    labels_of(table).check_images("a", 0)
    for first_frame in (0, 1):
        labels_of(table, first_frame=first_frame).check_images("a", 1)
    labels_of(write(tmp_path / "a.csv", "frame,AU1\n0,1\n")).check_images("a", 1)
    labels_of(write(tmp_path / "a.csv", "AU1\n0\n")).check_images("a", 1)


def test_what_a_system_left_beside_the_tables_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", FIRST)
    before = labels_digest(tmp_path)
    for name in ("._a.csv", ".a.txt", "__MACOSX/a.csv"):
        write(tmp_path / name, "\x00\x05\x16\x07")
    assert LabelTables(tmp_path, ["a.mp4"]).of("a.mp4").rows([0]).tolist() == [[1]]
    assert labels_digest(tmp_path) == before


def test_tables_that_change_places_make_another_corpus(tmp_path: Path) -> None:
    first, second = tmp_path / "F001" / "T1.csv", tmp_path / "F002" / "T1.csv"
    write(first, FIRST)
    write(second, SECOND)
    before = labels_digest(tmp_path)
    write(first, SECOND)
    write(second, FIRST)
    assert labels_digest(tmp_path) != before


def test_a_table_for_many_more_frames_than_there_are_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{frame},1\n" for frame in range(300))
    labels = labels_of(write(tmp_path / "a.csv", "frame,AU1\n" + rows), "a.mp4")
    labels.check("a.mp4", 296)
    with pytest.raises(LabelError, match="another frame rate"):
        labels.check("a.mp4", 200)


def test_a_name_is_the_same_however_its_accents_are_written(tmp_path: Path) -> None:
    composed, apart = "Ren\u00e9.mp4", "Rene\u0301"
    write(tmp_path / f"{apart}.csv", "frame,AU1\n0,3\n")
    assert LabelTables(tmp_path, [composed]).of(composed).values.tolist() == [[3]]

"""Labels land on the frames they were given for, and a table that cannot be read stops the build."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.corpus.labels import LabelError, LabelTables, thinned
from ausl_dist.corpus.settings import LabelSettings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_one_table_for_all_sources(tmp_path: Path) -> None:
    table = write(
        tmp_path / "labels.csv", "source,frame,AU1,AU12\na.mp4,0,1,5\na.mp4,2,0,9\nb/c.mp4,7,-1,\n"
    )
    tables = LabelTables(table)
    assert tables.units == (1, 12)
    assert tables.of("a.mp4").rows([0, 1, 2, 2]).tolist() == [[1, 5], [-1, -1], [0, -1], [0, -1]]
    assert tables.of("b/c.mp4").rows([7]).tolist() == [[-1, -1]]
    assert tables.of("unlabelled.mp4").rows([0, 1]).tolist() == [[-1, -1], [-1, -1]]


def test_a_folder_in_the_layout_of_aff_wild2(tmp_path: Path) -> None:
    write(tmp_path / "Train_Set" / "video5_left.txt", "AU1,AU2,AU4\n0,1,0\n-1,-1,-1\n1,1,0\n")
    tables = LabelTables(tmp_path)
    for source in ("video5_left.mp4", "cropped_aligned/video5_left"):
        assert tables.of(source).rows([0, 1, 2, 3]).tolist() == [
            [0, 1, 0],
            [-1, -1, -1],
            [1, 1, 0],
            [-1, -1, -1],
        ]


def test_frames_that_are_counted_from_one(tmp_path: Path) -> None:
    table = write(tmp_path / "s.csv", "frame,AU6\n1,0\n2,3\n")
    assert LabelTables(table.parent, first_frame=1).of("s.avi").rows([0, 1]).tolist() == [[0], [3]]


def test_unit_columns_are_found_by_name_whatever_else_there_is(tmp_path: Path) -> None:
    table = write(
        tmp_path / "s.csv", "\ufeffconfidence,frame, AU01 ,'AU 26',AU_12\n0.5,0,2,3,4.0\n"
    )
    tables = LabelTables(table)
    assert tables.units == (1, 26, 12)
    assert tables.of("").rows([0]).tolist() == [[2, 3, 4]]


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
        LabelTables(write(tmp_path / "bad.csv", text))


@settings(deadline=None)
@given(text=st.text(alphabet=st.sampled_from('frameAUsoc,0123456789-"\n\r .\x00'), max_size=200))
def test_any_text_is_read_or_refused(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("labels") / "any.csv"
    path.write_text(text)
    try:
        tables = LabelTables(path)
    except LabelError:
        return
    assert tables.of("").rows([0]).dtype == np.int8


def test_a_share_of_the_labelled_frames_is_drawn_by_seed_and_source(tmp_path: Path) -> None:
    rows = "".join(
        f"{source},{frame},{frame % 6}\n" for source in ("a", "b") for frame in range(10_000)
    )
    tables = LabelTables(write(tmp_path / "s.csv", "source,frame,AU1\n" + rows))
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
        LabelTables(tmp_path).of("b.mp4")

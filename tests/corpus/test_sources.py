"""What a user types finds the videos that are meant, under names that last."""

from pathlib import Path

import pytest

from ausl_dist.corpus.bring import bring, fetch
from ausl_dist.corpus.layouts import LAYOUTS, layout
from ausl_dist.corpus.sources import collect
from launch.object_store import ObjectStore

PLAIN = layout("plain")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.mp4",
        "a.MOV",
        "deep/er/c.mkv",
        "notes.txt",
        "deep/cover.jpg",
        "frames/x/f_1.jpg",
        "frames/x/f_2.jpg",
        "README",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def names(*inputs: str | Path) -> list[str]:
    return [source.name for source in collect([str(text) for text in inputs], PLAIN).sources]


def test_a_folder_gives_its_videos_and_frame_folders_and_counts_the_rest(folder: Path) -> None:
    found = collect([str(folder)], PLAIN)
    assert [source.name for source in found.sources] == [
        "a.MOV",
        "b.mp4",
        "deep/er/c.mkv",
        "frames/x",
    ]
    assert found.passed_over == {".txt": 1, ".jpg": 1, "": 1}
    assert all(Path(source.location).exists() for source in found.sources)


def test_files_globs_and_lists(folder: Path) -> None:
    assert names(folder / "b.mp4") == ["b.mp4"]
    assert names(folder / "README") == ["README"], (
        "a file that is named itself is taken whatever it is called"
    )
    assert names(f"{folder}/**/*.m*") == ["b.mp4", "deep/er/c.mkv"]
    assert names(f"{folder}/fram*") == ["frames/x"]
    listing = folder.parent / "list.txt"
    listing.write_text(f"# mine\nin/b.mp4\n\n{folder}/deep\n")
    found = sorted(["in/b.mp4", f"{str(folder).strip('/')}/deep/er/c.mkv"])
    assert names(listing) == found
    for encoding in ("utf-8-sig", "utf-16"):  # as editors on Windows write it
        listing.write_bytes(f"in/b.mp4\r\n{folder}/deep\r\n".encode(encoding))
        assert names(listing) == found


def test_a_frame_folder_may_be_the_input_itself(folder: Path) -> None:
    assert names(folder / "frames" / "x") == ["x"]


def test_one_video_named_twice_is_one_source(folder: Path) -> None:
    assert names(folder / "b.mp4", folder / "b.mp4") == ["b.mp4"]


def test_two_videos_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "b.mp4"
    other.parent.mkdir()
    other.touch()
    with pytest.raises(ValueError, match="would both be called"):
        names(folder / "b.mp4", other)


@pytest.mark.parametrize("text", ["nothing-here", "none-*.mp4"])
def test_what_does_not_exist_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileNotFoundError, match=text.replace("*", r"\*")):
        names(tmp_path / text)


def test_a_folder_without_video_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    with pytest.raises(ValueError, match=r"1 \.pdf"):
        names(tmp_path)


def test_a_table_names_identities_and_licences(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("file,identity,licence\nb.mp4,Bo,CC BY 4.0\nc.mkv,Cy,\n")
    found = {
        source.name: source
        for source in collect([str(folder)], PLAIN, licence="mine", table=table).sources
    }
    assert (found["b.mp4"].identity, found["b.mp4"].licence) == ("Bo", "CC BY 4.0")
    assert (found["deep/er/c.mkv"].identity, found["deep/er/c.mkv"].licence) == ("Cy", "mine")
    assert (found["a.MOV"].identity, found["a.MOV"].licence) == (None, "mine")
    table.write_text("name,person\nb.mp4,Bo\n")
    with pytest.raises(ValueError, match="columns file, identity, licence"):
        collect([str(folder)], PLAIN, table=table)


@pytest.mark.parametrize(
    ("name", "path", "identity", "source"),
    [
        (
            "voxceleb2",
            "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4",
            "id00012",
            "id00012/21Uxsk56VDQ/00001.mp4",
        ),
        (
            "voxceleb1",
            "id10001/1zcIwhmdeo4/00001.mp4",
            "id10001",
            "id10001/1zcIwhmdeo4/00001.mp4",
        ),
        (
            "voxceleb1",
            "unzippedFaces/Aamir_Khan/1.6/5ablueV_1tw",
            "Aamir_Khan",
            "Aamir_Khan/1.6/5ablueV_1tw",
        ),
        ("celebv-hq", "35666/M2Ohb0FAaJU_1.mp4", "M2Ohb0FAaJU", "M2Ohb0FAaJU_1.mp4"),
        ("celebv-hq", "a_b-c_d-e_f_12.mp4", "a_b-c_d-e_f", "a_b-c_d-e_f_12.mp4"),
        ("aff-wild2", "batch1/video5.mp4", None, "batch1/video5.mp4"),
        (
            "aff-wild2",
            "cropped_aligned/video5_left",
            "video5_left",
            "cropped_aligned/video5_left",
        ),
        ("plain", "any/where.mp4", None, "any/where.mp4"),
        (r"(?P<identity>S\d+)/", "S007/x.mp4", "S007", "S007/x.mp4"),
    ],
)
def test_layouts_read_identity_and_source_from_the_path(
    name: str, path: str, identity: str | None, source: str
) -> None:
    assert layout(name).read(path) == (identity, source)


def test_the_examples_of_the_presets_fit_them() -> None:
    for name, preset in LAYOUTS.items():
        for example in preset.example.split(" or "):
            preset.read(example)
            assert preset.licence or name


def test_files_that_do_not_fit_the_layout_are_named(folder: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"4 of 4 sources: .*looks like id00012/21Uxsk56VDQ/00001.mp4.*--layout plain",
    ):
        collect([str(folder)], layout("voxceleb2"))
    with pytest.raises(ValueError, match="take one of plain, voxceleb1"):
        layout("voxceleb3")
    with pytest.raises(ValueError, match="no regular expression"):
        layout("(?P<identity>[")


def test_an_identity_reaches_the_video_of_its_path_and_no_other(tmp_path: Path) -> None:
    for subject in ("F001", "F002", "F003"):
        (tmp_path / "in" / subject).mkdir(parents=True)
        (tmp_path / "in" / subject / "T1.mp4").touch()
    table = tmp_path / "people.csv"
    table.write_text("Video,Subject\nF001/T1.mp4,anna\nF002/T1,ben\nelsewhere.mp4,carl\n")
    found = collect([str(tmp_path / "in")], PLAIN, table=table)
    assert [source.identity for source in found.sources] == ["anna", "ben", None]
    for text, says in (
        ("file,identity\nT1.mp4,anna\n", "F001/T1.mp4 or F002/T1.mp4"),
        ("file,identity\nF001/T1.mp4,anna\nF001/T1,ben\n", "stands twice"),
        ("file,identity\nF009/T1.mp4,anna\n", "not one of its files"),
        ("file,path,identity\nF001/T1.mp4,a,anna\n", "are the same"),
        ("file,identity\nF001/T1.mp4\n", "too few"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=says):
            collect([str(tmp_path / "in")], PLAIN, table=table)


SYSTEM = ("._a.mp4", ".DS_Store", "Thumbs.db", "._f_1.jpg", "desktop.ini", ".hidden.mp4")


def test_what_a_system_left_is_passed_over_wherever_inputs_are_listed(tmp_path: Path) -> None:
    left = ("__MACOSX/a.mp4", ".Trashes/b.mp4", "$RECYCLE.BIN/c.mp4", "lost+found/d.mp4")
    for name in ("a.mp4", "x/f_1.jpg", "x/f_2.jpg", *left, "#recycle/e.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for folder in (tmp_path, tmp_path / "x"):
        for name in SYSTEM:
            (folder / name).touch()
    for place in (str(tmp_path), f"{tmp_path}/*", tmp_path.as_uri()):
        found = collect([place], PLAIN)
        assert [source.name for source in found.sources] == ["a.mp4", "x"]
        assert not found.passed_over


@pytest.mark.timeout(120)
def test_videos_in_an_object_store_are_found_and_fetched(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    from ausl_dist.shards import storage

    object_store.make_bucket("raw-video")
    content = bytes(range(256)) * 40_000
    for name in (
        "set/a.mp4",
        "set/deep/b.mkv",
        "set/notes.txt",
        "set/x/f_1.jpg",
        "set/x/f_2.jpg",
    ):
        storage.write_bytes(f"s3://raw-video/{name}", content)
    found = collect(["s3://raw-video/set"], PLAIN)
    assert [(source.name, source.location) for source in found.sources] == [
        ("a.mp4", "s3://raw-video/set/a.mp4"),
        ("deep/b.mkv", "s3://raw-video/set/deep/b.mkv"),
        ("x", "s3://raw-video/set/x/"),
    ]
    assert names("s3://raw-video/set/x") == ["x"]
    assert found.passed_over == {".txt": 1}
    sizes = list[int]()
    assert bring("s3://raw-video/set/a.mp4", tmp_path, sizes.append).read_bytes() == content
    assert sorted(
        file.name for file in bring("s3://raw-video/set/x/", tmp_path, sizes.append).iterdir()
    ) == ["f_1.jpg", "f_2.jpg"]
    assert sum(sizes) == 3 * len(content)
    assert names("s3://raw-video/set/a.mp4") == ["a.mp4"]
    with pytest.raises(FileNotFoundError, match="holds nothing"):
        names("s3://raw-video/other")
    with pytest.raises(OSError, match=r"gone\.mp4"):
        list(fetch("s3://raw-video/set/gone.mp4"))

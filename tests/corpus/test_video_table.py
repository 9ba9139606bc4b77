"""Parquet files and Hugging Face data sets of videos are input like any other."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from ausl_dist.corpus.bring import bring
from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.sources import Source, collect
from ausl_dist.corpus.table_rows import RowPlace
from ausl_dist.corpus.video_table import NoVideos, extract
from ausl_dist.faces.decode import Unreadable
from tests.support.fuzz import fuzz, inputs, patience, peak, reset_peak
from tests.support.plain_http import PlainHTTP
from tests.support.videos import moving_frames, write_video

PLAIN = layout("plain")
VIDEO = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
FEATURES = {
    "video": {"_type": "Video"},
    "emotion": {"names": ["calm", "joy"], "_type": "ClassLabel"},
    "poster": {"_type": "Image"},
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return write_video(path, moving_frames(12)).read_bytes()


def hub_table(cells: list[dict[str, Any] | None]) -> pyarrow.Table:
    """A table as `datasets` writes it: videos as structs, and what they are in the metadata."""
    count = len(cells)
    columns = {
        "poster": pyarrow.array([{"bytes": b"jpeg", "path": None}] * count, VIDEO),
        "video": pyarrow.array(cells, VIDEO),
        "emotion": pyarrow.array([number % 2 for number in range(count)], pyarrow.int64()),
        "speaker": pyarrow.array([f"s{number // 2}" for number in range(count)]),
        "caption": pyarrow.array(["a smile" * 999] * count),
        "boxes": pyarrow.array([[1.0, 2.0]] * count),
    }
    said = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pyarrow.table(columns).replace_schema_metadata(said)


def content(source: Source, folder: Path) -> bytes:
    (folder / "got").mkdir(exist_ok=True)
    return bring(source.location, folder / "got", lambda size: None).read_bytes()


def test_a_data_set_of_the_hub_with_classes_people_and_captions(
    tmp_path: Path, video: bytes
) -> None:
    videos = [video + bytes([number]) for number in range(5)]
    names = ["a/0.mp4", "a/1.mp4", "b.mp4", "b.mp4", None]
    cells = [{"bytes": d, "path": n} for d, n in zip(videos, names, strict=True)]
    path = tmp_path / "in" / "data" / "train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(hub_table(cells), path, row_group_size=2)
    parquet.write_table(pyarrow.table({"score": [1.0]}), path.parent / "scores.parquet")
    for place in (str(path), str(tmp_path / "in"), path.as_uri()):
        found = collect([place], PLAIN, identity_field="speaker")
        assert [source.name for source in found.sources] == [
            *("0002-000000", "a/0.mp4", "a/1.mp4", "b.mp4", "b.mp4@2"),
        ]
        assert [source.identity for source in found.sources] == ["s2", "s0", "s0", "s1", "s1"]
        assert dict(found.sources[2].about) == {
            "emotion": "joy",
            "speaker": "s0",
            "caption": ("a smile" * 999)[:1024],
        }
        by_row = [found.sources[at] for at in (1, 2, 3, 4, 0)]
        # in order, and again from the end: a row before the last one is found, too
        for number in [*range(5), *reversed(range(5))]:
            assert content(by_row[number], tmp_path) == videos[number]
    assert collect([str(tmp_path / "in")], PLAIN).passed_over == {".parquet": 1}


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"mp4": None, "__key__": "x"}, {}),  # as the Hub turns WebDataset shards into Parquet
        ({"clip": None}, {"video_column": "clip"}),
        ({"anything": None}, {}),
        ({"left.eye": None, "mp4": b"no"}, {"video_column": "left.eye"}),
    ],
)
def test_videos_as_plain_bytes(
    tmp_path: Path, video: bytes, columns: dict[str, Any], options: dict[str, str]
) -> None:
    table = pyarrow.table({name: [value or video] for name, value in columns.items()})
    for suffix in ("parquet", "arrow"):
        path = tmp_path / f"t.{suffix}"
        if suffix == "parquet":
            parquet.write_table(table, path)
        else:
            with pyarrow.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table)
        (source,) = collect([str(path)], PLAIN, **options).sources  # type: ignore[arg-type]
        assert source.name == ("x" if "__key__" in columns else "0000-000000")
        assert content(source, tmp_path) == video


def test_a_data_set_saved_to_disk(tmp_path: Path, video: bytes) -> None:
    cells = [{"bytes": video + bytes([number]), "path": f"{number}.mp4"} for number in range(5)]
    table = hub_table(cells)
    path = tmp_path / "data-00000-of-00001.arrow"
    with pyarrow.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    sources = collect([str(tmp_path)], PLAIN, identity_field="emotion").sources
    assert [source.identity for source in sources] == ["calm", "joy", "calm", "joy", "calm"]
    assert [content(source, tmp_path)[-1] for source in sources] == list(range(5))
    with pytest.raises(ValueError, match="local disk"):
        collect([str(write_remote(path.read_bytes(), "memory://d/a.arrow"))], PLAIN)


def write_remote(data: bytes, url: str) -> str:
    import fsspec

    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def test_paths_and_addresses_instead_of_bytes(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "web" / "clips").mkdir(parents=True)
    (tmp_path / "web" / "clips" / "a.mp4").write_bytes(video)
    with PlainHTTP(tmp_path / "web") as server:
        there = f"{server.url}/clips/a.mp4"
        for paths in (["clips/a.mp4"], [str(tmp_path / "web/clips/a.mp4")], [there]):
            path = tmp_path / "web" / "list.parquet"
            parquet.write_table(pyarrow.table({"url": paths, "who": ["x"]}), path)
            (source,) = collect([str(path)], PLAIN, identity_field="who").sources
            assert source.identity == "x"
            assert content(source, tmp_path) == video
            # structs without bytes mean the same
            parquet.write_table(hub_table([{"bytes": None, "path": p} for p in paths]), path)
            (source,) = collect([str(path)], PLAIN).sources
            assert content(source, tmp_path) == video
        parquet.write_table(pyarrow.table({"url": [f"{server.url}/gone.mp4"]}), path)
        (source,) = collect([str(path)], PLAIN).sources
        with pytest.raises(
            Unreadable, match=r"gone\.mp4"
        ):  # what the web lost is no fault of ours
            content(source, tmp_path)
        parquet.write_table(pyarrow.table({"url": ["gone.mp4"]}), path)
        with pytest.raises(FileNotFoundError, match=r"gone\.mp4, which does not exist"):
            collect([str(path)], PLAIN)


def test_a_scheme_that_nothing_here_reads_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"url": ["nowhere://x/a.mp4"]}), path)
    with pytest.raises(ValueError, match="nowhere"):
        collect([str(path)], PLAIN)


def test_rows_without_a_video_are_rejected_alone(tmp_path: Path, video: bytes) -> None:
    path = tmp_path / "a.parquet"
    cells = [{"bytes": video, "path": None}, None, {"bytes": None, "path": None}]
    parquet.write_table(hub_table(cells), path)
    first, *others = collect([str(path)], PLAIN).sources
    assert content(first, tmp_path) == video
    for source in others:
        with pytest.raises(Unreadable, match="holds no video"):
            content(source, tmp_path)


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"caption": ["a"]}, {}),
        ({"left": [b"x"], "right": [b"y"]}, {}),
        ({"video": [b"x"]}, {"video_column": "clip"}),
        ({"video": [b"x"], "n": [1]}, {"video_column": "n"}),
    ],
)
def test_a_column_that_cannot_be_told_is_asked_for(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, str]
) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(NoVideos, match=r"a\.parquet.*its columns are " + ", ".join(columns)):
        collect([str(path)], PLAIN, **options)  # type: ignore[arg-type]


def test_a_missing_package_is_said_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"video": [b"x"]}), path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ausl_dist\[parquet\]'"):
        collect([str(path)], PLAIN)


def write_arrow(table: pyarrow.Table, path: Path) -> None:
    with pyarrow.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, max_chunksize=3)


@patience
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_any_table_is_read_or_refused(tmp_path: Path, video: bytes, suffix: str) -> None:
    """Damage is one sentence on the whole, or one on a row; nothing else, and no crash."""
    write: Callable[[pyarrow.Table, Path], object] = (
        write_arrow if suffix == "arrow" else parquet.write_table
    )
    path = tmp_path / f"a.{suffix}"
    cells = [{"bytes": bytes(50 * n), "path": f"{n}.mp4"} for n in range(6)]
    write(hub_table(cells), path)

    def read() -> None:
        for source in collect([str(path)], PLAIN).sources:
            if "#" in source.location:
                content(source, tmp_path)

    for _ in fuzz([path], read, inputs(40)):
        pass


def test_a_store_that_fails_is_no_damage_and_the_next_try_succeeds(
    tmp_path: Path, video: bytes
) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"video": [video]}), path)
    data, place = path.read_bytes(), RowPlace(str(path), "video", 0, 0)

    def lost(start: int, end: int) -> bytes:
        raise OSError("the store is gone")

    def there(start: int, end: int) -> bytes:
        return data[start:end]

    with pytest.raises(OSError, match="the store is gone"):
        extract(place, lost, len(data), tmp_path, lambda size: None)
    assert extract(place, there, len(data), tmp_path, lambda size: None) == tmp_path / "source"


def test_a_row_group_larger_than_memory_may_be_is_read_a_page_at_a_time(tmp_path: Path) -> None:
    path, cells = tmp_path / "a.parquet", [bytes([n]) * (2 << 20) for n in range(32)]
    # one row group, and a page for each video, as writers that keep to 1 MiB pages make them
    parquet.write_table(
        pyarrow.table({"video": cells}), path, compression="none", write_batch_size=1
    )
    del cells
    sources = collect([str(path)], PLAIN).sources
    pyarrow.default_memory_pool().release_unused()
    reset_peak()
    before = peak()
    for number, source in enumerate(sources):
        assert content(source, tmp_path)[0] == number
    assert peak() - before < 32 << 20

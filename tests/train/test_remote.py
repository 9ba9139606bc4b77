"""A checkpoint in object storage is as good as one on disk: verified when copied, checked when
fetched, and an older one used if not.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from ausl_dist.run_folder import complete_checkpoints, damage
from ausl_dist.train.remote import fetch_newest, listed_steps, upload_checkpoint
from tests.train.test_checkpoint import save, savers

URL = "memory://copies/run"


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


def fetched(folder: Path) -> Path | None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    return fetch_newest(URL, folder / "checkpoints")


def test_every_checkpoint_is_copied_and_an_empty_folder_goes_on_from_the_newest(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    ranks = savers(tmp_path / "run", keep_last=2, upload=URL)
    save(ranks, 1, 2, 3)
    assert [saved.upload_problem for saved in ranks[0].news()] == [None, None, None]
    assert listed_steps(URL) == {2, 3}
    assert sorted(
        path.rsplit("/", 1)[-1] for path in store.ls("/copies/run", detail=False)
    ) == [
        "checkpoints.json",
        "step-00000002",
        "step-00000003",
    ]
    checkpoint = fetched(tmp_path / "elsewhere")
    assert checkpoint == tmp_path / "elsewhere" / "checkpoints" / "step-00000003"
    assert damage(checkpoint) is None
    assert complete_checkpoints(tmp_path / "elsewhere") == [checkpoint]


@pytest.mark.parametrize(
    "file", ["rank-00001-of-00002.safetensors", "state.json", "manifest.json"]
)
def test_a_spoilt_copy_is_passed_over_and_said(
    store: fsspec.AbstractFileSystem,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    file: str,
) -> None:
    save(savers(tmp_path / "run", upload=URL), 1, 2)
    path = f"/copies/run/step-00000002/{file}"
    data = bytearray(store.cat_file(path))
    data[len(data) // 2] ^= 1
    store.pipe_file(path, bytes(data))
    with caplog.at_level(logging.ERROR):
        checkpoint = fetched(tmp_path / "elsewhere")
    assert checkpoint is not None
    assert checkpoint.name == "step-00000001"
    assert "step 2" in caplog.text


def test_a_spoilt_copy_does_not_count_when_older_ones_are_removed(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    save(savers(tmp_path / "run", upload=URL, keep_last=2), 1, 5)
    store.rm_file("/copies/run/step-00000005/state.json")
    assert fetched(tmp_path / "elsewhere") is not None
    assert listed_steps(URL) == {1}
    save(savers(tmp_path / "elsewhere", upload=URL, keep_last=2), 2)
    assert listed_steps(URL) == {1, 2}


def test_a_copy_takes_the_place_of_a_damaged_checkpoint(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    save(savers(tmp_path / "run", upload=URL), 1, 2)
    for checkpoint in complete_checkpoints(tmp_path / "run"):
        (checkpoint / "state.json").write_text("{}")
    fetched_one = fetched(tmp_path / "run")
    assert fetched_one == tmp_path / "run" / "checkpoints" / "step-00000002"
    assert damage(fetched_one) is None


def test_copies_that_are_all_spoilt_start_nothing(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    assert fetched(tmp_path / "elsewhere") is None
    save(savers(tmp_path / "run", upload=URL), 1)
    store.rm_file("/copies/run/step-00000001/state.json")
    with pytest.raises(ValueError, match="no copy"):
        fetched(tmp_path / "elsewhere")


def test_a_copy_that_arrived_otherwise_than_sent_is_not_listed(
    store: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = savers(tmp_path / "run", upload=URL)
    save(ranks, 1)
    monkeypatch.setattr(
        "ausl_dist.train.remote.storage.upload",
        lambda path, url: store.pipe_file(url.removeprefix("memory:/"), b"?"),
    )
    save(ranks, 2)
    assert [saved.upload_problem is None for saved in ranks[0].news()] == [True, False]
    assert listed_steps(URL) == {1}
    assert [path.name for path in complete_checkpoints(tmp_path / "run")] == [
        "step-00000001",
        "step-00000002",
    ]


def test_a_manifest_cannot_write_outside_the_run_folder(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    store.pipe_file("/copies/run/checkpoints.json", b'{"steps": [1]}')
    store.pipe_file(
        "/copies/run/step-00000001/manifest.json",
        b'{"step": 1, "files": {"../../outside": {}}}',
    )
    with pytest.raises(ValueError, match="no copy"):
        fetched(tmp_path / "run")
    assert not (tmp_path / "outside").exists()


def test_retention_of_copies_is_that_of_the_folder(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    save(savers(tmp_path / "run"), 1, 2)
    for checkpoint in complete_checkpoints(tmp_path / "run"):
        upload_checkpoint(checkpoint, URL, lambda steps: {max(steps)})
    assert listed_steps(URL) == {2}

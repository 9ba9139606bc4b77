"""The rendered corpus: the same bytes whatever happens on the way, labels that fit the frames,
and no mixing of two worlds.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.batch import Needs, View
from ausl_dist.faces.landmarks import template_id
from ausl_dist.files import sha256_of
from ausl_dist.shards.clip import ClipMeta, array_from_bytes
from ausl_dist.shards.index import Index
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from ausl_dist.world.make import WorldSettings, make_world, work_folder
from launch.object_store import ObjectStore

SETTINGS = WorldSettings(identities=2, clips=3, seconds=0.4, size=64, seed=9, clips_per_shard=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    made = make_world(SETTINGS, str(folder), work=folder / "unused")
    assert not made.was_done
    return folder


def _shards(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.glob("*.tar"))}


def test_corpus_is_complete(corpus: Path) -> None:
    statement = json.loads((corpus / "corpus.json").read_text())
    assert (statement["clips"], statement["identities"], statement["labelled_clips"]) == (
        6,
        2,
        6,
    )
    assert statement["settings"]["seed"] == 9
    index = Index.load(str(corpus))
    assert index.num_clips == 6
    assert list(_shards(corpus)) == ["shard-000000.tar", "shard-000001.tar"]


def test_clips_carry_the_truth(corpus: Path) -> None:
    world = SETTINGS.open_world()
    with tarfile.open(corpus / "shard-000001.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    key = "world-9-000001-002"
    meta = ClipMeta.from_bytes(members[f"{key}.json"])
    clip = world.clip(1, 2)
    assert meta.action_units == world.head.action_units
    assert meta.identity == "builtin-9-000001"
    assert meta.frames == len(clip) == 10
    assert meta.alignment == template_id()
    labels = array_from_bytes(members[f"{key}.au.npy"], np.int8, (10, len(meta.action_units)))
    np.testing.assert_array_equal(labels, np.rint(clip.intensities))
    landmarks = array_from_bytes(members[f"{key}.landmarks.npy"], np.float16, (10, 68, 2))
    np.testing.assert_allclose(landmarks, clip.landmarks, atol=0.05)
    assert io.BytesIO(members[f"{key}.mp4"]).read(12)[4:8] == b"ftyp"


def test_two_processes_and_a_lost_shard_give_the_same_bytes(
    corpus: Path, tmp_path: Path
) -> None:
    make_world(SETTINGS, str(tmp_path), work=tmp_path / "unused", workers=2)
    assert _shards(tmp_path) == _shards(corpus)
    (tmp_path / "index.json").unlink()  # as if killed before the end, with one shard to go
    (tmp_path / "shard-000000.tar").unlink()
    untouched = (tmp_path / "shard-000001.tar").stat().st_mtime_ns
    steps: list[int] = []
    make_world(SETTINGS, str(tmp_path), work=tmp_path / "unused", on_progress=steps.append)
    assert _shards(tmp_path) == _shards(corpus)
    assert (tmp_path / "shard-000001.tar").stat().st_mtime_ns == untouched
    assert steps[-1] == SETTINGS.num_clips
    assert steps[0] >= 2


def test_a_finished_corpus_is_left_alone(corpus: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in corpus.iterdir()}
    assert make_world(SETTINGS, str(corpus), work=corpus / "unused").was_done
    assert {path.name: path.stat().st_mtime_ns for path in corpus.iterdir()} == before


def test_an_object_store_gets_the_same_corpus(
    object_store: ObjectStore, corpus: Path, tmp_path: Path
) -> None:
    object_store.make_bucket("rendered-world")
    url, work = "s3://rendered-world/small", tmp_path / "work"
    assert not make_world(SETTINGS, url, work=work).was_done
    assert not work.exists()  # what waited there has arrived
    assert Index.load(url).digest == Index.load(str(corpus)).digest
    assert make_world(SETTINGS, url, work=work).was_done


def test_another_world_in_the_same_place_is_refused(corpus: Path, tmp_path: Path) -> None:
    other = WorldSettings(identities=1, clips=1, seconds=0.4, size=64, seed=10)
    with pytest.raises(ValueError, match="another corpus"):
        make_world(other, str(corpus), work=tmp_path)
    (tmp_path / "shard-000000.tar").write_bytes(b"someone else's")
    with pytest.raises(ValueError, match="not of a rendered world"):
        make_world(other, str(tmp_path), work=tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"identities": 0}, "identities"),
        ({"clips": 1001}, "clips"),
        ({"codec": "mpeg2"}, "vp9"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldSettings(**{"identities": 1, "clips": 1, **values})  # type: ignore[arg-type]


def test_what_a_head_file_lacks_is_said_before_any_work(tmp_path: Path) -> None:
    settings = WorldSettings(identities=1, clips=1, head=tmp_path / "absent.npz")
    with pytest.raises(FileNotFoundError):
        make_world(settings, str(tmp_path / "out"), work=tmp_path)


def test_work_folder_is_one_for_each_address(tmp_path: Path) -> None:
    assert (
        work_folder("s3://b/world", tmp_path)
        == work_folder("s3://b/world/", tmp_path)
        != work_folder("s3://b/other", tmp_path)
    )


def test_what_else_lies_in_a_work_folder_is_not_removed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="something else"):
        make_world(SETTINGS, f"memory://{tmp_path.name}/world", work=work)
    assert (work / "thesis.txt").exists()


def test_a_folder_that_is_its_own_work_folder_keeps_the_corpus(tmp_path: Path) -> None:
    small = WorldSettings(identities=1, clips=1, seconds=0.2, size=64, seed=9)
    make_world(small, str(tmp_path), work=tmp_path)
    assert Index.load(str(tmp_path)).num_clips == 1


def test_true_motion_is_stored_and_reaches_a_batch(tmp_path: Path) -> None:
    gap = 5
    settings = WorldSettings(identities=1, clips=2, seconds=0.8, size=64, flow_gap=gap)
    make_world(settings, str(tmp_path / "world"), work=tmp_path / "work")
    view = View()
    plan = Needs(views={view: (0,)}, flow_gap=gap)
    data = DataSettings(
        {"main": CorpusSource(str(tmp_path / "world"))},
        image_size=48,
        lanes=1,
        clips_per_lane=2,
        window_start=3,
    )
    with Loader(data, plan, seed=0, rank=0, world_size=1, run_folder=tmp_path) as loader:
        batch = next(loader)
    assert batch.flow[view].shape == (2, 1, 2, 16, 16)
    numbers = [int(key.rsplit("-", 1)[1]) for key in batch.keys]
    clips = [settings.open_world().clip(0, number) for number in numbers]
    for clip, stored in zip(clips, batch.flow[view][:, 0], strict=True):
        middle = clip.flow(3, gap).motion[16:48, 16:48].mean((0, 1)) * 48 / (64 * 213 / 256)
        assert np.abs(stored[:, 4:12, 4:12].mean((1, 2)).numpy() - middle).max() < 0.3
    with pytest.raises(ValueError, match="flow_gap"):
        WorldSettings(identities=1, clips=1, seconds=0.8, flow_gap=20)

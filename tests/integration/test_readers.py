"""A whole epoch through each way of reading, from an object store and from a plain HTTP server:
the batches are those from a folder.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ausl_dist.batch import Batch, Needs, View
from ausl_dist.shards import storage
from ausl_dist.shards.index import Index
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tests.support.corpora import make_corpus
from tests.support.plain_http import PlainHTTP

pytestmark = pytest.mark.timeout(240)

VIEW = View(flip=0.5)
NEEDS = Needs({VIEW: (0, 2)}, landmarks=True, identity=True)
CLIPS, BATCH = 32, 4
URL = "s3://readers/corpus"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "corpus"
    return make_corpus(folder, clips=CLIPS, frames=4, size=32, chunk_bytes=8192)


@pytest.fixture(scope="module")
def from_a_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    return epoch(str(corpus), tmp_path_factory.mktemp("run"))


@pytest.fixture
def store(object_store: "object", corpus: Path) -> Iterator[str]:
    object_store.make_bucket("readers")  # type: ignore[attr-defined]
    for path in sorted(corpus.iterdir()):
        storage.upload(path, storage.join(URL, path.name))
    return URL


def epoch(url: str, run_folder: Path, **changes: object) -> list[Batch]:
    settings = DataSettings(
        {"main": CorpusSource(url)},
        image_size=32,
        lanes=2,
        clips_per_lane=BATCH // 2,
        shuffle_window=8,
        **changes,  # type: ignore[arg-type]
    )
    with Loader(settings, NEEDS, seed=1, rank=0, world_size=1, run_folder=run_folder) as loader:
        return [next(loader) for _ in range(CLIPS // BATCH)]


def assert_equal(batches: list[Batch], reference: list[Batch]) -> None:
    assert len({key for batch in batches for key in batch.keys}) == CLIPS
    for one, other in zip(batches, reference, strict=True):
        assert one.keys == other.keys
        for mine, theirs in zip(one.tensors(), other.tensors(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("reader", ["botocore", "fsspec"])
def test_an_epoch_from_an_object_store(
    reader: str, store: str, from_a_folder: list[Batch], tmp_path: Path
) -> None:
    assert_equal(epoch(store, tmp_path, reader=reader), from_a_folder)


@pytest.mark.parametrize("reader", ["botocore", "fsspec"])
@pytest.mark.parametrize("failures", [0, 3])
def test_an_epoch_from_a_plain_http_server(
    reader: str, failures: int, corpus: Path, from_a_folder: list[Batch], tmp_path: Path
) -> None:
    """Also from one that is overloaded at first: what it does not answer is no absent file."""
    with PlainHTTP(corpus.parent, failures) as server:
        batches = epoch(f"{server.url}/corpus", tmp_path, reader=reader)
        assert max(server.failed.values(), default=0) == failures
    assert_equal(batches, from_a_folder)


def test_a_corpus_that_an_http_server_has_not_is_an_answer(tmp_path: Path) -> None:
    with PlainHTTP(tmp_path) as server, pytest.raises(FileNotFoundError, match="no such file"):
        Index.load(f"{server.url}/corpus")

"""Fetching: nothing counts as read before its checksum is right, and the disk cache never makes
that worse.
"""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xxhash

from ausl_dist.shards import storage
from ausl_dist.shards.index import Chunk, Index
from ausl_dist.shards.retry import Retry
from ausl_dist.stream import cache
from ausl_dist.stream.cache import DiskCache
from ausl_dist.stream.fetch import Fetcher
from ausl_dist.stream.ledger import MissingClip
from tests.support.corpora import make_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus", clips=8)


def fetcher_for(
    corpus: Path, cache: DiskCache | None = None, deadline_seconds: float = 2.0
) -> Fetcher:
    return Fetcher(
        {"main": Index.load(str(corpus))},
        Retry(deadline_seconds, sleep=lambda seconds: None),
        cache,
    )


def chunk_of(data: bytes, number: int = 0) -> Chunk:
    return Chunk(number, "shard.tar", 0, len(data), 1, xxhash.xxh3_64_intdigest(data))


def chunk_at(corpus: Path, number: int) -> Chunk:
    return Index.load(str(corpus)).chunk(number)


def test_chunks_are_read_whole_and_counted(corpus: Path) -> None:
    fetcher = fetcher_for(corpus)
    index = Index.load(str(corpus))
    for number in range(len(index.chunks)):
        assert (
            xxhash.xxh3_64_intdigest(fetcher.read("main", number)) == index.chunk(number).xxh3
        )
    assert fetcher.counts == {
        "bytes": int(index.chunks["bytes"].sum()),
        "chunks": len(index.chunks),
    }


def test_a_flipped_bit_in_transit_is_read_again(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = storage.read_range
    calls: list[int] = []

    def flips_once(*arguments: object) -> bytes:
        data = bytearray(honest(*arguments))  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 1:
            data[777] ^= 4
        return bytes(data)

    fetcher = fetcher_for(corpus)
    monkeypatch.setattr(storage, "read_range", flips_once)
    fetcher.read("main", 0)
    assert (fetcher.counts["retries"], fetcher.counts["retries_checksum"]) == (1, 1)


def test_bytes_that_changed_where_they_lie_name_object_range_and_cure(corpus: Path) -> None:
    fetcher = fetcher_for(corpus)
    shard = corpus / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[777] ^= 4
    shard.write_bytes(data)
    with pytest.raises(
        MissingClip,
        match=r"main/shard-000000\.tar bytes 0-\d+: the bytes are not those of the index",
    ) as caught:
        fetcher.read("main", 0)
    assert caught.value.reason == "checksum"
    assert "index it again" in str(caught.value)


def test_a_shard_that_is_gone_or_short_is_a_missing_chunk(corpus: Path) -> None:
    fetcher = fetcher_for(corpus)
    shard = corpus / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(MissingClip, match="gave up after") as caught:
        fetcher.read("main", 0)
    assert caught.value.reason == "fetch"
    assert fetcher.counts["retries_short"] == fetcher.counts["retries"] > 0
    shard.unlink()
    with pytest.raises(MissingClip, match="no such file"):
        fetcher.read("main", 0)


def test_a_cached_chunk_is_not_fetched_again_by_another_rank(
    corpus: Path, tmp_path: Path
) -> None:
    fetcher_for(corpus, DiskCache(tmp_path / "cache", 1 << 20)).read("main", 0)
    (corpus / "shard-000000.tar").unlink()
    other = fetcher_for(corpus, DiskCache(tmp_path / "cache", 1 << 20))
    other.read("main", 0)
    assert other.counts["cache_hits"] == 1
    assert "bytes" not in other.counts


def test_a_damaged_file_of_the_cache_is_fetched_anew(corpus: Path, tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "cache", 1 << 20)
    data = fetcher_for(corpus, disk).read("main", 0)
    (path,) = (tmp_path / "cache").glob("*.chunk")
    path.write_bytes(data[:-1] + b"x")
    fetcher = fetcher_for(corpus, disk)
    assert fetcher.read("main", 0) == data
    assert fetcher.counts["bytes"] == len(data)
    assert path.read_bytes() == data


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_cache_disk_that_is_full_or_fails_is_given_up_and_the_read_goes_on(
    error: int,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fetcher = fetcher_for(corpus, DiskCache(tmp_path / "cache", 1 << 20))

    def fail(*arguments: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(cache, "write_atomically", fail)
    for _ in range(2):
        assert xxhash.xxh3_64_intdigest(fetcher.read("main", 0)) == chunk_at(corpus, 0).xxh3
    assert fetcher.counts["cache_failures"] == 1
    assert [os.strerror(error) in message for message in caplog.messages] == [True]
    assert "data.cache_folder" in caplog.text


def test_a_cache_that_cannot_be_read_or_made_is_given_up_too(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    nowhere = fetcher_for(corpus, DiskCache(tmp_path / "file" / "cache", 1 << 20))
    data = nowhere.read("main", 0)
    assert nowhere.counts["cache_failures"] == 1
    fetcher = fetcher_for(corpus, DiskCache(tmp_path / "cache", 1 << 20))
    fetcher.read("main", 0)
    (stored,) = (tmp_path / "cache").glob("*.chunk")
    stored.unlink()
    stored.mkdir()  # reading it is an error of the disk, not an absent file
    assert fetcher.read("main", 0) == data
    assert fetcher.counts["cache_failures"] == 1


def test_a_chunk_that_waited_for_a_thread_is_given_up_only_while_nothing_comes(
    corpus: Path,
) -> None:
    now = [0.0]
    index = Index.load(str(corpus))
    retry = Retry(10.0, clock=lambda: now[0], sleep=lambda seconds: None)
    fetcher = Fetcher({"main": index}, retry)
    now[0] = 100.0
    with pytest.raises(MissingClip, match="not tried, because all reads failed for 10 s"):
        fetcher.read("main", 1, asked=80.0)
    fetcher.read("main", 0, asked=95.0)
    now[0] = 105.0
    fetcher.read("main", 1, asked=80.0)  # a slow store, but one that delivers


def test_the_cache_keeps_to_its_size_and_drops_what_was_used_least_recently(
    tmp_path: Path,
) -> None:
    cache = DiskCache(tmp_path, 100_000)
    blocks = [os.urandom(10_000) for _ in range(30)]
    for number, data in enumerate(blocks):
        cache.put(chunk_of(data), data)
        os.utime(
            tmp_path / f"{xxhash.xxh3_64_intdigest(data):016x}-10000.chunk", (number, number)
        )
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 110_000
    assert cache.get(chunk_of(blocks[0])) is None
    assert cache.get(chunk_of(blocks[-1])) == blocks[-1]


def test_a_writer_that_was_killed_leaves_nothing_that_is_read_or_stays(tmp_path: Path) -> None:
    data = b"x" * 10_000
    name = f"{xxhash.xxh3_64_intdigest(data):016x}-10000.chunk"
    orphan = tmp_path / f".{name}.12345.tmp"
    orphan.write_bytes(data[:500])
    os.utime(orphan, (0, 0))
    cache = DiskCache(tmp_path, 100_000)
    assert cache.get(chunk_of(data)) is None
    cache.put(chunk_of(data), data)
    assert cache.get(chunk_of(data)) == data
    assert not orphan.exists()


def test_several_ranks_may_fill_one_cache_at_once(tmp_path: Path) -> None:
    blocks = [os.urandom(5_000) for _ in range(40)]

    def rank(number: int) -> None:
        cache = DiskCache(tmp_path, 60_000)
        for data in blocks[number % 3 :: 2]:
            cache.put(chunk_of(data), data)
            assert cache.get(chunk_of(data)) in (data, None)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rank, range(4)))
    assert not list(tmp_path.glob("*.tmp"))

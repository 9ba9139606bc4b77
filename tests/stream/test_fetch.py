"""Fetching: nothing counts as read before its checksum is right, the disk cache never makes that
worse, what a builder wrote comes out again, and no bytes whatever can do harm.
"""

import contextlib
import errno
import io
import os
import random
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xxhash

from ausl_dist.shards import storage
from ausl_dist.shards.index import Chunk, Index
from ausl_dist.shards.reader import StoredClip
from ausl_dist.shards.retry import Retry
from ausl_dist.stream import cache
from ausl_dist.stream.cache import DiskCache
from ausl_dist.stream.fetch import Fetcher, unpack
from ausl_dist.stream.ledger import MissingClip
from tests.support.corpora import draw_clip, make_corpus
from tests.support.fuzz import bounded, inputs, patience

MUTANTS = inputs(1000)


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


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    corpus = make_corpus(
        tmp_path_factory.mktemp("corpus"),
        clips=4,
        frames=4,
        size=32,
        action_units=True,
        chunk_bytes=1 << 20,
    )
    index = Index.load(str(corpus))
    first = index.chunk(0)
    return (corpus / first.shard).read_bytes()[
        first.offset : first.offset + first.bytes
    ], first.clips


def member(name: str, data: bytes, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def test_clips_come_out_as_they_went_in(chunk: tuple[bytes, int]) -> None:
    clips = unpack(*chunk)
    assert [clip.key for clip in clips if isinstance(clip, StoredClip)] == [
        draw_clip(number, frames=1).key for number in range(4)
    ]
    for clip in clips:
        assert isinstance(clip, StoredClip)
        assert set(clip.members) == {"mp4", "json", "landmarks.npy", "au.npy"}


def test_members_of_other_kinds_are_left_out() -> None:
    data = (
        member("a.mp4", b"video")
        + member("a.json", b"{}")
        + member("a.flow.pkl", b"never unpickled")
    )
    (clip,) = unpack(data, 1)
    assert isinstance(clip, StoredClip)
    assert set(clip.members) == {"mp4", "json"}


def test_a_clip_without_its_video_leaves_its_neighbours_alone() -> None:
    data = member("a.json", b"{}") + member("b.mp4", b"x") + member("b.json", b"{}")
    bad, good = unpack(data, 2)
    assert isinstance(bad, MissingClip)
    assert bad.reason == "unpack"
    assert isinstance(good, StoredClip)


@pytest.mark.parametrize(
    "data",
    [
        member("a.mp4", b"x", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("a.mp4", b"x", type=tarfile.GNUTYPE_SPARSE),
        member(
            "a.mp4",
            b"x",
            pax_headers={"GNU.sparse.realsize": "1" + "0" * 15, "GNU.sparse.major": "1"},
        ),
        member("a.mp4", b"x", pax_headers={"size": "1" + "0" * 15}),
        b"\x1f\x8b\x08" + b"x" * 600,
        b"BZh91AY&SY" + b"x" * 600,
        member("a.mp4", b"x")[:700],
        b"",
    ],
)
def test_a_chunk_that_tarfile_would_follow_too_far_is_refused(data: bytes) -> None:
    with pytest.raises(MissingClip) as caught:
        unpack(data, 1)
    assert caught.value.reason == "unpack"


def test_a_chunk_with_another_number_of_clips_than_the_index_says_is_refused() -> None:
    with pytest.raises(MissingClip, match="holds 1 clips, the index says 2"):
        unpack(member("a.mp4", b"x") + member("a.json", b"{}"), 2)


@patience
def test_mutated_chunks_are_unpacked_or_refused_in_bounded_memory(
    chunk: tuple[bytes, int],
) -> None:
    data, clips = chunk
    chance = random.Random(0)
    peak = 0
    for number in bounded(MUTANTS):
        mutant = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 8])):
            place = chance.choice(
                [
                    chance.randrange(len(mutant)),
                    512 * chance.randrange(len(mutant) // 512) + chance.randrange(300),
                ]
            )
            mutant[min(place, len(mutant) - 1)] = chance.choice(
                [0, 255, ord("7"), ord("x"), chance.randrange(256)]
            )
        if chance.random() < 0.2:
            del mutant[chance.randrange(len(mutant)) :]
        watched = number % 20 == 0
        if watched:
            tracemalloc.start()
        with contextlib.suppress(MissingClip):
            assert len(unpack(bytes(mutant), clips)) == clips
        if watched:
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peak < 20 * len(data) + (4 << 20)


def test_the_builders_chunks_open_in_plain_webdataset(tmp_path: Path) -> None:
    import webdataset

    corpus = make_corpus(tmp_path, clips=8)
    urls = [str(path) for path in sorted(corpus.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == [
        draw_clip(number, frames=1).key for number in range(8)
    ]
    assert all({"mp4", "json", "landmarks.npy"} <= set(sample) for sample in samples)
    assert io.BytesIO(samples[0]["mp4"]).read(8)[4:] == b"ftyp"

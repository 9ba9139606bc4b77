"""The index: a scan finds what is in a shard, whoever wrote it, and a reader refuses an index
that does not fit its shards.
"""

import gzip
import io
import json
import random
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import webdataset
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.shards.clip import ClipMeta, array_to_bytes
from ausl_dist.shards.index import (
    CHUNK_DTYPE,
    CHUNKS_NAME,
    INDEX_NAME,
    Index,
    scan_shard,
    write_index,
)
from ausl_dist.shards.sealed import sealed_json
from tests.support.corpora import draw_clip, make_corpus
from tests.support.fuzz import bounded, inputs, patience

MUTANTS = inputs(100)
META = ClipMeta("video", "who", "CC0-1.0", 25.0, 0.0, 20, "rendered", "none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), clips=24)


def tar_bytes(members: list[tuple[str, bytes]], **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def clip_members(key: str, meta: ClipMeta = META) -> list[tuple[str, bytes]]:
    return [(f"{key}.mp4", b"v" * 3000), (f"{key}.json", meta.to_bytes())]


def test_chunks_are_runs_of_whole_clips_that_cover_the_shard(corpus: Path) -> None:
    index = Index.load(str(corpus))
    assert index.num_clips == 24
    assert index.min_frames == 20
    assert index.fps == 25.0
    assert len(index.shards) > 1
    keys = []
    for number in range(len(index.chunks)):
        chunk = index.chunk(number)
        with open(corpus / chunk.shard, "rb") as file:
            file.seek(chunk.offset)
            data = file.read(chunk.bytes)
        assert xxhash.xxh3_64_intdigest(data) == chunk.xxh3
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:  # a chunk alone reads as a tar
            names = tar.getnames()
        here = list(dict.fromkeys(name.split(".")[0] for name in names))
        assert len(here) == chunk.clips
        keys += here
    assert keys == [draw_clip(number, frames=1).key for number in range(24)]


def test_chunks_have_about_the_size_asked_for(corpus: Path) -> None:
    entry = scan_shard(corpus / "shard-000000.tar", "shard-000000.tar", chunk_bytes=40_000)
    sizes = entry.chunks["bytes"]
    assert (sizes[:-1] >= 40_000).all()
    assert sizes.max() < 40_000 + 40_000
    assert scan_shard(corpus / "shard-000000.tar", "shard-000000.tar").chunks[
        "clips"
    ].tolist() == [entry.clips]


def test_shards_of_plain_webdataset_are_indexed(tmp_path: Path) -> None:
    """Its writer puts a pax header with a fractional time before every member."""
    drawn = draw_clip(0)
    path = tmp_path / "other-00.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(3):
            landmarks = array_to_bytes(drawn.landmarks)
            writer.write(
                {
                    "__key__": f"clip{number}",
                    "mp4": b"video",
                    "json": META.to_bytes(),
                    "landmarks.npy": landmarks,
                }
            )
    entry = scan_shard(path, path.name, chunk_bytes=1024)
    assert entry.clips == 3
    assert len(entry.chunks) == 3
    write_index(str(tmp_path), [entry])
    assert Index.load(str(tmp_path)).num_clips == 3


def test_long_names_are_read_as_tarfile_reads_them() -> None:
    key = "k" * 120  # too long for a plain header: GNU and pax each have a way of their own
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = tar_bytes(clip_members(key), format=kind)
        assert scan_shard(io.BytesIO(data), "long.tar").clips == 1


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([("a.mp4", b"x")], "clip a has no a.json"),
        (
            [*clip_members("a"), *clip_members("b"), *clip_members("a")],
            "clip a: its members are not adjacent",
        ),
        ([("a.mp4", b"x"), ("a.mp4", b"y")], "stands twice"),
        (clip_members("folder/a"), "no folder"),
        (clip_members("ä"), "a clip's key has letters"),
        ([("a.mp4", b"x"), ("a.json", b"{")], "clip a: clip metadata is not valid JSON"),
        (
            [
                *clip_members("a"),
                *clip_members("b", ClipMeta("v", "w", "l", 30.0, 0.0, 20, "d", "t")),
            ],
            "a corpus has one frame rate",
        ),
        ([], "holds no clip"),
    ],
)
def test_a_shard_that_a_reader_would_stumble_over_is_refused_by_name(
    members: list[tuple[str, bytes]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        scan_shard(io.BytesIO(tar_bytes(members)), "bad.tar")
    assert "shard bad.tar" in str(caught.value)


def test_members_that_could_blow_up_in_a_reader_are_refused() -> None:
    good = tar_bytes(clip_members("a"))
    with pytest.raises(ValueError, match="compressed"):
        scan_shard(io.BytesIO(gzip.compress(good)), "zipped.tar")
    link = tarfile.TarInfo("a.mp4")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(ValueError, match="no regular file"):
        scan_shard(io.BytesIO(link.tobuf() + good), "link.tar")
    huge = tarfile.TarInfo("a.mp4")
    huge.size = 1 << 40
    with pytest.raises(ValueError, match="claims 1099511627776 bytes"):
        scan_shard(io.BytesIO(huge.tobuf(tarfile.GNU_FORMAT) + good), "huge.tar")
    sparse = tarfile.TarInfo("a.mp4")
    sparse.pax_headers = {"GNU.sparse.realsize": str(1 << 50)}
    with pytest.raises(ValueError, match=r"GNU\.sparse"):
        scan_shard(io.BytesIO(sparse.tobuf(tarfile.PAX_FORMAT) + good), "sparse.tar")
    with pytest.raises(ValueError, match="behind its end mark"):
        scan_shard(io.BytesIO(good + good), "twice.tar")
    for cut in (600, len(good) - 9000):
        with pytest.raises(ValueError, match=r"cut short|has no"):
            scan_shard(io.BytesIO(good[:cut]), "short.tar")


@given(st.binary(max_size=2048))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused_with_a_sentence(data: bytes) -> None:
    with pytest.raises(ValueError, match="shard noise"):
        scan_shard(io.BytesIO(data), "noise")


def test_equal_shards_give_equal_indexes_and_a_changed_byte_another_digest(
    corpus: Path, tmp_path: Path
) -> None:
    entries = [scan_shard(path, path.name) for path in sorted(corpus.glob("*.tar"))]
    write_index(str(tmp_path), reversed(entries))
    first = Index.load(str(tmp_path))
    write_index(str(tmp_path), entries)
    assert Index.load(str(tmp_path)).digest == first.digest
    shard = bytearray((corpus / entries[0].name).read_bytes())
    shard[600] ^= 1
    write_index(
        str(tmp_path), [scan_shard(io.BytesIO(bytes(shard)), entries[0].name), *entries[1:]]
    )
    assert Index.load(str(tmp_path)).digest != first.digest


def test_corpora_of_two_frame_rates_are_not_one_corpus(tmp_path: Path) -> None:
    slow = scan_shard(io.BytesIO(tar_bytes(clip_members("a"))), "a.tar")
    fast = scan_shard(
        io.BytesIO(
            tar_bytes(clip_members("b", ClipMeta("v", "w", "l", 50.0, 0.0, 20, "d", "t")))
        ),
        "b.tar",
    )
    with pytest.raises(ValueError, match=r"different frame rates \[25\.0, 50\.0\]"):
        write_index(str(tmp_path), [slow, fast])


def test_a_missing_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="index"):
        Index.load(str(tmp_path))


def test_an_index_that_does_not_fit_its_table_is_refused(corpus: Path, tmp_path: Path) -> None:
    for name in (INDEX_NAME, CHUNKS_NAME):
        (tmp_path / name).write_bytes((corpus / name).read_bytes())
    summary = json.loads((corpus / INDEX_NAME).read_text())
    del summary["checksum"]

    def refused(change: dict[str, object], complaint: str) -> None:
        (tmp_path / INDEX_NAME).write_bytes(sealed_json({**summary, **change}))
        with pytest.raises(ValueError, match=complaint):
            Index.load(str(tmp_path))

    refused({"format": 99}, "index the shards again")
    refused({"clips": 25}, "holds 24 clips")
    refused({"chunks": 3}, "3 chunks were promised")
    refused({"min_frames": 0}, "impossible")
    refused({"fps": "x"}, "cannot be used")
    refused({"shards": summary["shards"][:1]}, "points nowhere")
    refused({"shards": [{**row, "bytes": "1"} for row in summary["shards"]]}, "malformed row")
    for huge in (1 << 63, 10**400, -1):
        refused(
            {"shards": [{**row, "bytes": huge} for row in summary["shards"]]}, "malformed row"
        )
        refused({"frames": huge}, "impossible")
        refused({"clips": huge}, "impossible")
    refused({"fps": 10**400}, "cannot be used")
    refused({"shards": [{"name": "x.tar"}]}, "without all of its columns")
    refused({"shards": [{**row, "name": "../x"} for row in summary["shards"]]}, "file names")
    refused({"shards": [{**row, "bytes": 10} for row in summary["shards"]]}, "behind the end")
    (tmp_path / INDEX_NAME).write_bytes(sealed_json(summary))
    table = np.load(tmp_path / CHUNKS_NAME)
    table["offset_blocks"][0] += 1
    np.save(tmp_path / CHUNKS_NAME, table)
    with pytest.raises(ValueError, match="checksum differs"):
        Index.load(str(tmp_path))


@patience
def test_a_mutated_index_is_right_or_refused(corpus: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    originals = {name: (corpus / name).read_bytes() for name in (INDEX_NAME, CHUNKS_NAME)}
    right, refusals = Index.load(str(corpus)).chunks.tolist(), 0
    for number in bounded(MUTANTS):
        for name, original in originals.items():
            mutant = bytearray(original)
            if name == (INDEX_NAME, CHUNKS_NAME)[number % 2]:
                mutant[chance.randrange(len(mutant))] = chance.randrange(256)
            (tmp_path / name).write_bytes(mutant)
        try:
            # What passes is what was written: the byte may have had that value, or stand in the
            # table's header.
            assert Index.load(str(tmp_path)).chunks.tolist() == right
        except ValueError:
            refusals += 1
    assert refusals > 0.8 * MUTANTS


def test_the_index_of_a_billion_clips_opens_in_seconds_and_under_300_mb(tmp_path: Path) -> None:
    rows = 6_250_000
    table = np.zeros(rows, CHUNK_DTYPE)
    table["clips"], table["bytes"] = 160, 8 << 20
    table["shard"] = np.arange(rows) // 32
    table["offset_blocks"] = np.arange(rows) % 32 * (8 << 20) // 512
    np.save(tmp_path / CHUNKS_NAME, table)
    shard = {
        "bytes": 32 * (8 << 20) + 1024,
        "sha256": "0" * 64,
        "clips": 5120,
        "frames": 163840,
        "min_frames": 32,
    }
    shards = [{"name": f"shard-{number:06d}.tar", **shard} for number in range(-(-rows // 32))]
    summary = {
        "format": 1,
        "clips": 160 * rows,
        "frames": 5120 * rows,
        "min_frames": 32,
        "fps": 25.0,
        "chunks": rows,
        "shards": shards,
    }
    summary["chunks_xxh3_128"] = xxhash.xxh3_128_hexdigest(table.view(np.uint8).data)
    (tmp_path / INDEX_NAME).write_bytes(sealed_json(summary))
    script = textwrap.dedent(
        """
        import sys, time
        start = time.process_time()
        from ausl_dist.shards.index import Index
        index = Index.load(sys.argv[1])
        assert index.num_clips == 10**9
        index.chunk(5_000_000)
        seconds = time.process_time() - start
        # Not ru_maxrss: that is inherited from the process that started this one.
        peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
        print(seconds, peak)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    seconds, memory_mb = map(float, done.stdout.split())
    print(
        f"index of a billion clips: {seconds:.1f} s, {memory_mb:.0f} MB with its table mapped"
    )
    assert seconds < 20
    assert memory_mb < 300

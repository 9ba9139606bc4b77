"""Unpacking: what a builder wrote comes out again, and no bytes whatever can do harm."""

import contextlib
import io
import random
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from ausl_dist.shards.index import Index
from ausl_dist.shards.reader import StoredClip
from ausl_dist.stream.ledger import MissingClip
from ausl_dist.stream.unpack import unpack
from tests.support.corpora import draw_clip, make_corpus
from tests.support.fuzz import bounded, inputs, patience

MUTANTS = inputs(1000)


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

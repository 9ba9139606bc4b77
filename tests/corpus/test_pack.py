"""Shards come out the same bytes in whatever order sources finish, and wherever packing was
killed.
"""

import random
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.corpus import pack
from ausl_dist.corpus.books import KEPT, TrackPiece
from ausl_dist.corpus.extract import SourceResult
from ausl_dist.corpus.pack import Duplicates, Packer, ResultStore
from ausl_dist.corpus.settings import CorpusSettings, QualitySettings
from ausl_dist.faces.landmarks import template_id
from ausl_dist.randomness import random_stream
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.reader import read_clips
from ausl_dist.shards.writer import clip_blocks
from tests.support.kills import KillAt, Killed

SOURCES = 9
SETTINGS = CorpusSettings(max_shard_bytes=1 << 20)


def write_result(store: ResultStore, index: int) -> None:
    """A source with 0 to 4 clips of random bytes; every third source repeats the first clip of
    source 1.
    """
    pieces, blocks = [], []
    for number in range(index % 5):
        copy = index % 3 == 0 and number == 0
        stream = random_stream("clip", 1 if copy else index, number)
        video, signature = stream.bytes(150_000), stream.bytes(32)
        key = f"s{index}-{number}"
        meta = ClipMeta(f"s{index}", "i", "CC0", 25.0, 0.0, 4, "rendered", template_id())
        blocks.append(clip_blocks(key, meta, video, np.zeros((4, 68, 2), np.float16)))
        pieces.append(
            TrackPiece(
                4 * number,
                4 * number + 4,
                KEPT,
                0,
                key=key,
                clip_bytes=len(blocks[-1]),
                signature=signature.hex(),
            )
        )
    store.clips_path(index).write_bytes(b"".join(blocks))
    store.write(
        index, SourceResult(f"s{index}", 25.0, frames=40, faces=4 * (index % 5), pieces=pieces)
    )


def packer_of(work: Path, store: ResultStore) -> Packer:
    return Packer(
        work, store, work / "shards", sources=SOURCES, settings=SETTINGS, prefix="shard"
    )


def pack_all(work: Path, order: list[int]) -> tuple[dict[str, bytes], list[dict]]:
    store = ResultStore(work / "results")
    packer = packer_of(work, store)
    for index in order:
        write_result(store, index)
        packer.advance()
    packer.finish()
    return _shards(work), [packer.result(index).to_dict() for index in range(SOURCES)]


def _shards(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (work / "shards").iterdir()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[dict]]:
    return pack_all(tmp_path_factory.mktemp("pack"), list(range(SOURCES)))


def test_shards_hold_every_clip_once_but_for_the_duplicates(
    expected: tuple[dict[str, bytes], list[dict]], tmp_path: Path
) -> None:
    shards, results = expected
    assert len(shards) > 2
    assert all(name.endswith(".tar") for name in shards)
    keys = []
    for name, data in sorted(shards.items()):
        (tmp_path / name).write_bytes(data)
        keys += [stored.key for stored in read_clips(tmp_path / name)]
    wanted = [
        f"s{index}-{number}"
        for index in range(SOURCES)
        for number in range(index % 5)
        if not (index in (3, 6) and number == 0)
    ]
    assert keys == wanted
    duplicates = [
        piece["key"]
        for result in results
        for piece in result["pieces"]
        if piece["outcome"] == "duplicate"
    ]
    assert duplicates == ["s3-0", "s6-0"]


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_finishing_does_not_matter(
    expected: object, tmp_path: Path, seed: int
) -> None:
    order = list(range(SOURCES))
    random.Random(seed).shuffle(order)
    assert pack_all(tmp_path, order) == expected


@pytest.mark.parametrize("kill_at", range(20))
def test_packing_goes_on_after_a_kill_at_any_write(
    expected: tuple[dict[str, bytes], list[dict]],
    tmp_path: Path,
    kill_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill = KillAt(kill_at)
    store = ResultStore(tmp_path / "results")
    for index in range(SOURCES):
        write_result(store, index)
    with monkeypatch.context() as patch:
        patch.setattr(pack, "write_json", kill.before(pack.write_json))
        patch.setattr(pack, "append_json_line", kill.before(pack.append_json_line))
        patch.setattr(ResultStore, "forget_clips", kill.before(ResultStore.forget_clips))
        try:
            packer = packer_of(tmp_path, store)
            packer.advance()
            packer.finish()
        except Killed:
            pass
    packer = packer_of(tmp_path, store)
    packer.advance()
    packer.finish()
    assert _shards(tmp_path) == expected[0]
    assert [packer.result(index).to_dict() for index in range(SOURCES)] == expected[1]


def test_clips_are_deleted_once_their_shard_is_complete_and_not_before(tmp_path: Path) -> None:
    pack_all(tmp_path, list(range(SOURCES)))
    assert not list((tmp_path / "results").glob("*.clips"))


def test_duplicates_are_found_within_the_limit_and_not_beyond() -> None:
    signature = bytes(32)
    near, far = (
        bytes([0xFF] * 4 + [0] * 28),
        bytes([0xFF] * 5 + [0] * 27),
    )  # 32 and 40 bits away
    index = Duplicates(QualitySettings().duplicate_bits)
    assert [index.is_duplicate(s.hex()) for s in (signature, near, far, far)] == [
        False,
        True,
        False,
        True,
    ]
    keeping = Duplicates(-1)
    assert not any(keeping.is_duplicate(signature.hex()) for _ in range(2000))

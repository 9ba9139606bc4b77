"""Nothing that goes wrong with a clip reaches a batch: it keeps its slot with weight 0, is written
down, and stops the run when there are too many.
"""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ausl_dist.shards.index import scan_shard, write_index
from ausl_dist.stream.ledger import BudgetPassed
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import Budgets, CorpusSource
from tests.support.corpora import make_corpus
from tests.support.loading import PLAN, WIDE, take

pytestmark = pytest.mark.timeout(120)


def damaged(corpus: Path, folder: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The corpus with members changed, and indexed anew: damage that was there when the corpus
    was built.
    """
    folder.mkdir()
    for path in sorted(corpus.glob("*.tar")):
        with (
            tarfile.open(path) as source,
            tarfile.open(folder / path.name, "w", format=tarfile.USTAR_FORMAT) as target,
        ):
            for info in source:
                data = change(info.name, source.extractfile(info).read())  # type: ignore[union-attr]
                info.size = len(data)
                target.addfile(info, io.BytesIO(data))
    write_index(
        str(folder),
        [
            scan_shard(path, path.name, chunk_bytes=64 << 10)
            for path in sorted(folder.glob("*.tar"))
        ],
    )
    return folder


@pytest.mark.parametrize("decoder", ["pyav", "dali"])
def test_damaged_clips_keep_their_slots_with_weight_0_and_enter_the_ledger(
    open_loader: Callable[..., Loader], loader_corpus: Path, tmp_path: Path, decoder: str
) -> None:
    def change(name: str, data: bytes) -> bytes:
        if name == "drawn-0-000003.mp4":
            # the tables are whole, the frames are not
            start, end = (
                data.index(b"mdat") + 4,
                data.index(b"moov") - 4,
            )
            return data[:start] + bytes(end - start) + data[end:]
        if name == "drawn-0-000005.mp4":
            return data[:300]
        if name == "drawn-0-000008.landmarks.npy":
            return b"no array"
        return data

    bad = damaged(loader_corpus, tmp_path / "bad", change)
    budgets = Budgets(unpack=0.01, decode=0.01)
    # 22 clips, 2 lanes of 2: six steps are an epoch and a little more
    clean = take(open_loader(lanes=2, decoder=decoder), 6)
    loader = open_loader(
        lanes=2, decoder=decoder, corpora={"main": CorpusSource(str(bad))}, budgets=budgets
    )
    batches = take(loader, 6)
    missing = {"drawn-0-000003", "drawn-0-000005", "drawn-0-000008"}
    seen = 0
    for batch, reference in zip(batches, clean, strict=True):
        # Damage changes the size of chunks, so the order of the two corpora differs; but every
        # slot is there, and good clips are whole.
        assert len(batch) == len(reference) == 4
        for place, key in enumerate(batch.keys):
            if batch.weight[place] == 0:
                seen += 1
                assert key.startswith("missing: main/shard-")
                for view in PLAN.views:
                    assert not batch.frames[view][place].any()
                    assert not batch.landmarks[view][place].any()
                    assert (batch.action_units[view][place] == -1).all()
            else:
                assert key not in missing
                assert batch.frames[WIDE][place].any()
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["step"] < 6]
    assert seen == len(lines) >= 3
    details = " ".join(line["detail"] for line in lines)
    assert all(key in details for key in missing)
    assert {line["reason"] for line in lines} == {"decode", "unpack"}
    assert loader.counts["missing_decode"] >= 2


def test_too_many_missing_clips_stop_the_run_with_the_list(
    open_loader: Callable[..., Loader], loader_corpus: Path, tmp_path: Path
) -> None:
    bad = damaged(
        loader_corpus,
        tmp_path / "bad",
        lambda name, data: data[:300] if name.endswith("7.mp4") else data,
    )
    loader = open_loader(corpora={"main": CorpusSource(str(bad))}, budgets=Budgets(decode=0.0))
    with pytest.raises(
        BudgetPassed, match=r"clip drawn-0-0000\d7: .*raise data\.budgets\.decode"
    ):
        take(loader, 20)


def test_an_object_replaced_under_the_run_stops_it_by_name(
    open_loader: Callable[..., Loader], tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "mine", clips=16, frames=12, action_units=True)
    with open_loader(corpora={"main": CorpusSource(str(corpus))}) as probe:
        next(probe)
    shard = corpus / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    data[2000:2100] = bytes(100)
    shard.write_bytes(data)
    loader = open_loader(corpora={"main": CorpusSource(str(corpus))})
    with pytest.raises(
        BudgetPassed,
        match=r"main/shard-000000\.tar bytes \d+-\d+.*not those of the index.*index it again",
    ):
        take(loader, 10)

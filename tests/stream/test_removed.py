"""A take-down under a running job: its order goes on, what was removed is gone everywhere, and
the run can be resumed.
"""

import time
from pathlib import Path

import pytest
import torch

from ausl_dist.batch import Batch, Needs, View
from ausl_dist.corpus.takedown import Request, take_down
from ausl_dist.shards.index import Index
from ausl_dist.shards.reader import read_clips
from ausl_dist.shards.removals import Removals, load_index
from ausl_dist.stream import removed
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tests.support.corpora import make_corpus

NEEDS = Needs({View(flip=0.5): (0, 2)}, landmarks=True)
CLIPS = 24
EPOCH = CLIPS // 4  # steps of four clips


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(
        tmp_path / "corpus",
        clips=CLIPS,
        frames=4,
        size=32,
        shard_bytes=32 << 10,
        chunk_bytes=8192,
    )


def open_loader(corpus: Path, tmp_path: Path, start_step: int = 0, **more: object) -> Loader:
    settings = DataSettings(
        {"main": CorpusSource(str(corpus))},
        image_size=32,
        lanes=2,
        clips_per_lane=2,
        shuffle_window=4,
        memory_mib=16,
        cache_folder=str(tmp_path / "cache"),
    )
    return Loader(
        settings,
        NEEDS,
        seed=1,
        rank=0,
        world_size=1,
        run_folder=tmp_path,
        start_step=start_step,
        **more,  # type: ignore[arg-type]
    )


def remove(corpus: Path, *numbers: int) -> list[str]:
    keys = [f"drawn-0-{number:06d}" for number in numbers]
    take_down(str(corpus), Request(clips=tuple(keys)), date="2030-01-01")
    return keys


def take(loader: Loader, steps: int) -> list[Batch]:
    return [next(loader) for _ in range(steps)]


def assert_same_but_for(batches: list[Batch], reference: list[Batch], gone: list[str]) -> None:
    """Slot by slot: a removed clip's is empty, every other one's holds what it always did."""
    for one, other in zip(batches, reference, strict=True):
        for slot, key in enumerate(other.keys):
            assert one.weight[slot] == (0.0 if key in gone else 1.0)
            assert (one.keys[slot] == key) == (key not in gone)
            for view in NEEDS.views:
                expected = other.frames[view][slot] * one.weight[slot]
                assert torch.equal(one.frames[view][slot], expected)


def test_a_running_job_goes_on_and_lets_go_of_what_was_removed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corpus fits into memory, so that nothing is ever read again by itself."""
    with open_loader(corpus, tmp_path / "other") as undisturbed:
        reference = take(undisturbed, 20 * EPOCH)
    monkeypatch.setattr(removed, "LOOK_SECONDS", 0.2)
    with open_loader(corpus, tmp_path) as loader:
        before = take(loader, EPOCH)
        gone = remove(corpus, 3, 4, 17)
        step = EPOCH
        while not loader.taken_down["main"]:
            before.append(next(loader))
            step += 1
            time.sleep(0.05)
        in_flight = take(loader, EPOCH)  # decoded before it was known
        after = take(loader, 2 * EPOCH)
        counts = loader.counts
    assert_same_but_for(before[:EPOCH], reference[:EPOCH], [])
    first = step + len(in_flight)
    with open_loader(corpus, tmp_path / "third", first, digests=digests(loader)) as again:
        whole = take(again, 2 * EPOCH)
    assert_same_but_for(after, whole_of(reference, first, 2 * EPOCH), gone)
    assert_same_but_for(whole, whole_of(reference, first, 2 * EPOCH), gone)
    assert counts["missing_removed"] >= 6
    assert "missing_fetch" not in counts


def whole_of(reference: list[Batch], first: int, steps: int) -> list[Batch]:
    """Steps of the undisturbed run; it is taken far enough by the caller."""
    assert first + steps <= len(reference), "the take-down was learnt of too late"
    return reference[first : first + steps]


def digests(loader: Loader) -> dict[str, str]:
    return {name: index.digest for name, index in loader.indexes.items()}


def test_a_job_whose_shard_is_gone_finds_the_other_clips_at_once(
    corpus: Path, tmp_path: Path
) -> None:
    """Without waiting for the next look: the read that fails is the news."""
    with open_loader(corpus, tmp_path / "other") as undisturbed:
        reference = take(undisturbed, 2 * EPOCH)
        begun = digests(undisturbed)
    loader = open_loader(corpus, tmp_path, digests=begun)
    loader.close()
    gone = remove(corpus, 0, 5, 11, 23)
    with open_loader(corpus, tmp_path / "late", digests=begun) as late:
        assert late.taken_down == {"main": 4}
        assert_same_but_for(take(late, 2 * EPOCH), reference, gone)


def test_one_take_down_after_another_is_followed_from_every_index(
    corpus: Path, tmp_path: Path
) -> None:
    references, begun = [], []
    for number, clips in enumerate([(), (2, 3), (1, 4, 9), (0, 20)]):
        if clips:
            remove(corpus, *clips)
        with open_loader(corpus, tmp_path / f"run {number}") as loader:
            references.append(take(loader, EPOCH))
            begun.append(digests(loader))
    assert len({each["main"] for each in begun}) == 4
    gone = [(2, 3, 1, 4, 9, 0, 20), (1, 4, 9, 0, 20), (0, 20), ()]
    for number, (reference, each, clips) in enumerate(
        zip(references, begun, gone, strict=True)
    ):
        with open_loader(corpus, tmp_path / f"again {number}", digests=each) as loader:
            keys = [f"drawn-0-{clip:06d}" for clip in clips]
            assert_same_but_for(take(loader, EPOCH), reference, keys)
            assert loader.taken_down == {"main": len(clips)}


def test_no_cache_of_any_run_keeps_what_was_removed(corpus: Path, tmp_path: Path) -> None:
    with open_loader(corpus, tmp_path) as loader:
        take(loader, EPOCH)
    (gone,) = remove(corpus, 7)
    with open_loader(corpus, tmp_path) as new:  # over the new index: it never knew the clip
        take(new, EPOCH)
    stored = list((tmp_path / "cache").iterdir())
    assert stored
    assert not any(gone.encode() in path.read_bytes() for path in stored)


def test_nothing_removed_is_left_on_storage_for_the_old_index(corpus: Path) -> None:
    begun = Index.load(str(corpus)).digest
    gone = remove(corpus, 6, 7)
    old = load_index(str(corpus), begun)
    assert (old.digest, old.url) == (begun, str(corpus))
    assert old.digest != Index.load(str(corpus)).digest
    for path in corpus.rglob("*"):
        if path.suffix == ".tar":
            assert not {clip.key for clip in read_clips(path)} & set(gone)
        elif path.is_file() and path.name not in ("ledger.jsonl", "corpus.json"):
            assert not any(key.encode() in path.read_bytes() for key in gone), path


def test_an_index_that_was_never_published_is_not_made_up(corpus: Path) -> None:
    remove(corpus, 1)
    assert load_index(str(corpus), "f" * 64).digest == Index.load(str(corpus)).digest


def test_a_damaged_account_of_removals_is_refused_with_its_name(corpus: Path) -> None:
    remove(corpus, 1)
    path = corpus / "removals.json"
    text = path.read_text()
    path.write_text(text.replace('"kept"', '"kepp"', 1))
    with pytest.raises(ValueError, match=r"removals\.json cannot be used"):
        Removals.load(str(corpus))

"""A corpus appears at its address whole, says truly what is in it, and loses what must be taken
down.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.corpus import takedown
from ausl_dist.corpus.adopt import adopt
from ausl_dist.corpus.books import Books
from ausl_dist.corpus.page import account_text, page, read_account
from ausl_dist.corpus.parts import BuildPart, join_parts, publish_part
from ausl_dist.corpus.takedown import Request, next_revision, take_down
from ausl_dist.faces.landmarks import template_id
from ausl_dist.shards import publish as publishing
from ausl_dist.shards import storage
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.encode import encode_video
from ausl_dist.shards.index import Index
from ausl_dist.shards.publish import Tally, publish, survey
from ausl_dist.shards.reader import read_clips
from ausl_dist.shards.writer import ShardWriter
from tests.support.corpora import draw_clip
from tests.support.corpora import make_corpus as make_any_corpus
from tests.support.kills import KillAt, Killed


def make_corpus(folder: Path, **values: bool) -> Path:
    """Twelve clips in several shards."""
    return make_any_corpus(folder, clips=12, shard_bytes=40 << 10, **values)  # type: ignore[arg-type]


def keys_seen(url: str | Path) -> list[str]:
    """What a reader of the index sees, checksums and all."""
    from ausl_dist.shards.index import scan_shard

    index = Index.load(str(url))
    keys = []
    for row in index.shards:
        path = Path(url) / row.name
        assert scan_shard(path, row.name).sha256 == row.sha256
        keys += [stored.key for stored in read_clips(path)]
    assert len(keys) == index.num_clips
    return keys


def statement_of(url: str | Path) -> dict:
    return json.loads((Path(url) / "corpus.json").read_text())


def test_publishing_copies_states_and_indexes(tmp_path: Path) -> None:
    folder, url = make_corpus(tmp_path / "from", action_units=True), tmp_path / "to"
    made = publish(
        folder,
        str(url),
        name="drawn",
        books={"fps": 25.0},
        settings={"a": 1},
        ledger=[{"source": "x", "reason": "no_face"}],
    )
    assert keys_seen(url) == [f"drawn-0-{number:06d}" for number in range(12)]
    assert made == statement_of(url)
    assert (made["clips"], made["frames"], made["sources"], made["identities"]) == (
        12,
        240,
        6,
        3,
    )
    assert (made["licences"], made["labelled_clips"], made["action_units"]) == (
        {"CC0-1.0": 12},
        12,
        [1, 12, 26],
    )
    assert (made["alignment"], made["fps"]) == (template_id(), 25.0)
    assert (url / "ledger.jsonl").read_text() == '{"source": "x", "reason": "no_face"}\n'


def test_a_clip_is_labelled_where_some_value_is_known_and_nowhere_else(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    for number, known in enumerate((0, 0, 1, 20)):
        drawn = draw_clip(number)
        labels = np.full((20, 2), -1, np.int8)
        labels[:known] = 0
        writer.add(
            drawn.key,
            ClipMeta("s", "i", "l", 25.0, 0.0, 20, "d", "a", action_units=(1, 12)),
            encode_video(drawn.frames, 25),
            drawn.landmarks,
            labels,
        )
    writer.close()
    assert publish(tmp_path, str(tmp_path), name="n")["labelled_clips"] == 2
    assert adopt(str(tmp_path)).tally.labelled_clips == 2
    take_down(str(tmp_path), Request(clips=("drawn-0-000002",)), date="2030-01-01")
    assert statement_of(tmp_path)["labelled_clips"] == 1


def test_an_upload_that_was_killed_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = make_corpus(tmp_path / "from"), str(tmp_path / "to")
    sent: list[str] = []
    real = storage.upload

    def upload(path: Path, address: str) -> None:
        if len(sent) == 1:
            raise KeyboardInterrupt
        sent.append(path.name)
        real(path, address)

    with monkeypatch.context() as patch:
        patch.setattr(publishing.storage, "upload", upload)
        with pytest.raises(KeyboardInterrupt):
            publish(folder, url, name="drawn")
    assert not storage.exists(f"{url}/index.json")
    monkeypatch.setattr(
        publishing.storage,
        "upload",
        lambda path, address: (sent.append(path.name), real(path, address))[1],
    )
    publish(folder, url, name="drawn")
    assert sent == sorted(path.name for path in folder.glob("*.tar"))
    assert len(keys_seen(url)) == 12


def test_what_was_sent_before_and_is_gone_is_sent_again(tmp_path: Path) -> None:
    folder, url = make_corpus(tmp_path / "from"), tmp_path / "to"
    publish(folder, str(url), name="drawn")
    for change in (Path.unlink, lambda shard: shard.write_bytes(shard.read_bytes()[:512])):
        change(next(url.glob("*.tar")))
        publish(folder, str(url), name="drawn")
        assert len(keys_seen(url)) == 12


def test_clips_that_cannot_stand_in_one_corpus_are_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path)
    for number, alignment in enumerate((template_id(), "another")):
        drawn = draw_clip(number)
        writer.add(
            drawn.key,
            ClipMeta("s", "i", "l", 25.0, 0.0, 20, "d", alignment),
            encode_video(drawn.frames, 25),
            drawn.landmarks,
        )
    writer.close()
    with pytest.raises(ValueError, match=r"shard-000000.tar, clip drawn-0-000001: alignment"):
        publish(tmp_path, str(tmp_path), name="mixed")
    with pytest.raises(ValueError, match=r"no shard"):
        publish(tmp_path / "nowhere", str(tmp_path), name="empty")


def part_of(folder: Path, number: int, total: int, build: str = "b") -> None:
    tally, entries = survey(folder, f"p{number}-")
    books = Books(
        25.0,
        sources=1,
        frames=tally.frames,
        kept=tally.frames,
        faces=tally.frames,
        faces_kept=tally.frames,
        clips=tally.clips,
    )
    publish_part(
        str(folder),
        BuildPart(build, number, total, books, tally),
        entries,
        iter([{"source": f"part {number}"}]),
    )


def test_parts_become_one_corpus_when_the_last_is_there(tmp_path: Path) -> None:
    for number in (0, 2):
        writer = ShardWriter(tmp_path, prefix=f"p{number}")
        for clip in range(3 * number, 3 * number + 3):
            drawn = draw_clip(clip)
            writer.add(
                drawn.key,
                ClipMeta(f"s{clip}", "i", "l", 25.0, 0.0, 20, "d", "a"),
                encode_video(drawn.frames, 25),
                drawn.landmarks,
            )
        writer.close()
    for number in (2, 0):
        part_of(tmp_path, number, 3)
        assert join_parts(str(tmp_path), "b", 3, name="n", settings={}) is None
    part_of(tmp_path, 1, 3)  # of whose videos nothing was kept
    made = join_parts(str(tmp_path), "b", 3, name="n", settings={})
    assert made is not None
    assert made["clips"] == 6
    assert made["books"]["sources"] == 3
    assert len(keys_seen(tmp_path)) == 6
    assert [
        json.loads(line)["source"]
        for line in (tmp_path / "ledger.jsonl").read_text().splitlines()
    ] == ["part 0", "part 1", "part 2"]
    with pytest.raises(ValueError, match="another build"):
        join_parts(str(tmp_path), "c", 3, name="n", settings={})


def test_a_tally_survives_json_and_adds_up(tmp_path: Path) -> None:
    tally, _ = survey(make_corpus(tmp_path, action_units=True))
    again = Tally.from_dict(json.loads(json.dumps(vars(tally))))
    assert again == tally
    again.merge(tally)
    assert again.clips == 2 * tally.clips
    assert again.sources["drawing-0"] == 2 * tally.sources["drawing-0"]


@pytest.mark.parametrize(
    ("request_", "gone"),
    [
        (Request(sources=("drawing-1",)), {2, 3}),
        (Request(identities=("person-0", "person-2")), {0, 1, 2, 3, 8, 9, 10, 11}),
        (Request(clips=("drawn-0-000005",)), {5}),
        (Request(sources=("drawing",)), set()),
    ],
)
def test_what_is_taken_down_is_gone_from_index_shards_and_statement(
    tmp_path: Path, request_: Request, gone: set[int]
) -> None:
    url = make_corpus(tmp_path)
    publish(url, str(url), name="drawn")
    removed = take_down(str(url), request_, date="2030-01-01", why="asked")
    left = [f"drawn-0-{number:06d}" for number in range(12) if number not in gone]
    assert removed.clips == len(gone)
    assert keys_seen(url) == left
    on_disk = [stored.key for path in sorted(url.glob("*.tar")) for stored in read_clips(path)]
    assert sorted(on_disk) == left
    if gone:
        made = statement_of(url)
        assert made["clips"] == len(left)
        assert made["removed"][0]["why"] == "asked"
        assert made["removed"][0]["removed_clips"] == len(gone)
        lines = [json.loads(line) for line in (url / "ledger.jsonl").read_text().splitlines()]
        assert [line["key"] for line in lines if line["reason"] == "removed"] == [
            f"drawn-0-{number:06d}" for number in sorted(gone)
        ]


@pytest.mark.parametrize("kill_at", range(20))
def test_a_take_down_that_is_killed_shows_nothing_and_is_finished_by_the_next(
    tmp_path: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_corpus(tmp_path)
    publish(url, str(url), name="drawn")
    request = Request(sources=("drawing-1", "drawing-4"))
    kill = KillAt(kill_at)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", kill.before(storage.write_bytes))
        patch.setattr(storage, "upload", kill.before(storage.upload))
        patch.setattr(takedown, "_delete", kill.before(takedown._delete))
        try:
            take_down(str(url), request, date="2030-01-01")
        except Killed:
            # the plan, the account of the old index and the first new one are written
            if kill_at > 5 and storage.exists(f"{url}/index.json"):
                assert not {2, 3, 8, 9} & {int(key[-6:]) for key in _indexed(url)}
    take_down(str(url), request, date="2030-01-01")
    left = [number for number in range(12) if number not in (2, 3, 8, 9)]
    assert [int(key[-6:]) for key in keys_seen(url)] == left
    assert (
        sorted(
            int(stored.key[-6:]) for path in url.glob("*.tar") for stored in read_clips(path)
        )
        == left
    )
    assert statement_of(url)["clips"] == 8
    lines = (url / "ledger.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 4
    assert not (url / "takedown.json").exists()


def _indexed(url: Path) -> list[str]:
    return [
        stored.key
        for row in Index.load(str(url)).shards
        for stored in read_clips(url / row.name)
    ]


def test_taking_down_everything_leaves_no_corpus(tmp_path: Path) -> None:
    url = make_corpus(tmp_path)
    publish(url, str(url), name="drawn")
    take_down(
        str(url), Request(identities=("person-0", "person-1", "person-2")), date="2030-01-01"
    )
    assert not list(url.glob("*.tar"))
    assert not (url / "index.json").exists()
    assert statement_of(url)["clips"] == 0


def test_shard_names_never_stand_for_two_contents() -> None:
    assert next_revision("shard-000003.tar") == "shard-000003-r1.tar"
    assert next_revision("shard-000003-r1.tar") == "shard-000003-r2.tar"
    with pytest.raises(ValueError, match="name a --source"):
        Request()


def test_shards_made_elsewhere_get_an_index_and_a_list_of_what_they_lack(
    tmp_path: Path,
) -> None:
    url = make_corpus(tmp_path)
    for name in ("index.json", "index.chunks.npy", "corpus.json"):
        (url / name).unlink()
    found = adopt(str(url))
    assert len(keys_seen(url)) == 12
    assert statement_of(url)["clips"] == 12
    (sentence,) = found.missing()
    assert sentence.startswith("action_units: 0 of 12 clips have it")
    with pytest.raises(FileNotFoundError, match=r"no \.tar"):
        adopt(str(_folder_with(tmp_path / "other", "a.txt")))


def _folder_with(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / name).touch()
    return folder


def test_the_page_needs_nothing_else_and_shows_kept_and_rejected(tmp_path: Path) -> None:
    url = make_corpus(tmp_path)
    ledger = [
        {"source": "<b>.mp4", "reason": "unreadable", "message": "cut & gone"},
        {
            "source": "c.mp4",
            "reason": "blurred",
            "start_second": 1.0,
            "seconds": 2.0,
            "frames": 50,
            "detail": {"sharpness": 0.001},
        },
        {
            "source": "d.mp4",
            "reason": "blurred",
            "start_second": 1.0,
            "seconds": 2.0,
            "frames": 50,
            "picture": "AAAA",
        },
    ]
    books = Books(25.0, sources=3, frames=300, kept=240, faces=240, faces_kept=240)
    books.rejected["no_face"] = 60
    publish(url, str(url), name="drawn <heads>", books=books.to_dict(), ledger=ledger)
    text = page(str(url))
    assert text.count("<img") == 12 + 1
    assert text.count("<svg") == 2
    assert "drawn &lt;heads&gt;" in text
    assert "&lt;b&gt;.mp4</td><td>cut &amp; gone" in text
    assert "blurred: 2 pieces, 4.0 s" in text
    assert "<p>c.mp4 @ 1.0 s</p>" in text, "a piece without a picture has a place"
    assert "<b>" not in text
    assert "http" not in text.replace("https://", "http"), "the page must not fetch anything"
    printed = account_text(read_account(str(url))[0])
    assert "240 frames       9.60 s   80.0 %" in printed
    assert "nobody was found" in printed


def test_an_account_made_elsewhere_is_shown_as_it_is(tmp_path: Path) -> None:
    assert account_text({"name": "x", "clips": 3}) == "name: x\nclips: 3"
    with pytest.raises(FileNotFoundError):
        read_account(str(tmp_path))


@pytest.mark.timeout(180)
def test_a_corpus_in_an_object_store_is_published_taken_down_and_inspected(
    object_store, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    object_store.make_bucket("corpus-room")
    url = "s3://corpus-room/drawn"
    publish(make_corpus(tmp_path), url, name="drawn")
    assert Index.load(url).num_clips == 12
    assert take_down(url, Request(sources=("drawing-0",)), date="2030-01-01").clips == 2
    index = Index.load(url)
    assert index.num_clips == 10
    assert all(storage.exists(f"{url}/{row.name}") for row in index.shards)
    assert not storage.exists(f"{url}/shard-000000.tar")
    assert "<img" in page(url)
    assert adopt(url).tally.clips == 10


def test_a_name_to_take_down_is_met_however_its_accents_are_written() -> None:
    meta = ClipMeta("Ren\u00e9/1.mp4", "Ren\u00e9", "CC0", 25.0, 0.0, 3, "d", "a")
    assert Request(sources=("Rene\u0301",)).matches("k", meta)
    assert Request(identities=("Rene\u0301",)).matches("k", meta)
    assert not Request(identities=("Rene",)).matches("k", meta)

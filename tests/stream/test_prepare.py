"""One clip: whatever its members hold, it becomes part of a batch or a line of the ledger."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ausl_dist.batch import Needs, View
from ausl_dist.json_lines import read_json_lines
from ausl_dist.shards.clip import array_to_bytes
from ausl_dist.shards.index import Index
from ausl_dist.shards.reader import StoredClip
from ausl_dist.stream.fetch import unpack
from ausl_dist.stream.frames import FrameDecoder
from ausl_dist.stream.ledger import BudgetPassed, Ledger, Missing, MissingClip
from ausl_dist.stream.prepare import Preparation
from ausl_dist.stream.settings import Budgets
from tests.support.corpora import ACTION_UNITS, make_corpus
from tests.support.fuzz import bounded, inputs, patience

MUTANTS = inputs(1000)
VIEW = View(rotation=5.0)
PLAN = Needs.union([Needs({VIEW: (0, 2)}, landmarks=True, identity=True, action_units=True)])
PREPARE = Preparation(
    PLAN, image_size=32, seed=0, window_start=None, action_units=ACTION_UNITS, decode_here=True
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> StoredClip:
    corpus = make_corpus(
        tmp_path_factory.mktemp("corpus"), clips=1, frames=6, size=64, action_units=True
    )
    (only,) = unpack((corpus / Index.load(str(corpus)).chunk(0).shard).read_bytes()[:-1024], 1)
    assert isinstance(only, StoredClip)
    return only


def refused(clip: StoredClip, reason: str, complaint: str, **members: bytes | None) -> None:
    changed = {
        **clip.members,
        **{name.replace("_", "."): data for name, data in members.items()},
    }
    with pytest.raises(MissingClip, match=complaint) as caught:
        PREPARE(
            StoredClip(
                clip.key, {name: data for name, data in changed.items() if data is not None}
            ),
            "main",
            0,
            FrameDecoder(),
        )
    assert caught.value.reason == reason
    assert clip.key in str(caught.value)


def test_a_mirrored_picture_has_its_sides_mirrored_too(clip: StoredClip) -> None:
    """What was L12 is R12 where the picture is turned, and what has no side keeps its label."""
    meta = json.loads(clip.members["json"])
    names = (1012, 2012, 1)
    meta["action_units"] = [*names]
    labels = np.array([[4, 0, 2]] * 6, np.int8)
    members = {**clip.members, "json": json.dumps(meta).encode()}
    members["au.npy"] = array_to_bytes(labels)
    sided = StoredClip(clip.key, members)
    for flip, wanted in ((0.0, [2, 0, 4]), (1.0, [2, 4, 0])):
        view = View(flip=flip)
        plan = Needs.union([Needs({view: (0,)}, action_units=True)])
        prepare = replace(PREPARE, plan=plan, action_units=(1, 2012, 1012))
        found = prepare(sided, "main", 0, FrameDecoder()).action_units[view]
        assert found.tolist() == [wanted]


def test_a_good_clip_becomes_pixels_landmarks_and_labels(clip: StoredClip) -> None:
    prepared = PREPARE(clip, "main", 0, FrameDecoder())
    assert prepared.pixels.pictures is not None
    assert prepared.pixels.pictures[VIEW].shape == (2, 32, 32, 3)
    assert prepared.landmarks[VIEW].shape == (2, 68, 2)
    assert prepared.action_units[VIEW].shape == (2, 3)
    again = PREPARE(clip, "main", 0, FrameDecoder())
    assert np.array_equal(again.pixels.pictures[VIEW], prepared.pixels.pictures[VIEW])  # type: ignore[index]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_mean_face_is_that_of_all_frames_as_the_view_shows_them(
    clip: StoredClip, flip: float
) -> None:
    whole = View(rotation=5.0, flip=flip)
    frames = tuple(range(6))
    plan = Needs.union([Needs({whole: frames}, landmarks=True, mean_face=True)])
    prepared = replace(PREPARE, plan=plan)(clip, "main", 0, FrameDecoder())
    assert np.allclose(prepared.mean_face[whole], prepared.landmarks[whole].mean(0), atol=1e-3)
    few = Needs.union([Needs({whole: (0,)}, mean_face=True)])
    alone = replace(PREPARE, plan=few)(clip, "main", 0, FrameDecoder())
    # a shorter window is drawn elsewhere, in the same view
    assert np.allclose(alone.mean_face[whole], prepared.mean_face[whole], atol=1e-3)
    assert not alone.landmarks


def test_each_kind_of_damage_has_its_reason(clip: StoredClip) -> None:
    landmarks = np.zeros((6, 68, 2), np.float16)
    refused(clip, "unpack", "not valid JSON", json=b"{")
    refused(
        clip,
        "unpack",
        "has no .*landmarks.npy, which an objective needs.*~mixture",
        landmarks_npy=None,
    )
    refused(
        clip,
        "unpack",
        r"expected float16",
        landmarks_npy=array_to_bytes(landmarks.astype(np.float32)),
    )
    refused(clip, "unpack", r"expected float16", landmarks_npy=array_to_bytes(landmarks[:3]))
    refused(
        clip,
        "unpack",
        "not finite",
        landmarks_npy=array_to_bytes(landmarks + np.float16(np.inf)),
    )
    refused(
        clip,
        "unpack",
        r"action units lie in -1\.\.5",
        au_npy=array_to_bytes(np.full((6, 3), 9, np.int8)),
    )
    refused(clip, "decode", "not a readable mp4", mp4=b"")
    shorter = clip.members["json"].replace(b'"frames": 6', b'"frames": 5')
    refused(
        clip,
        "decode",
        "its metadata says 5",
        json=shorter,
        landmarks_npy=array_to_bytes(landmarks[:5]),
        au_npy=None,
    )


def test_pickles_are_never_decoded(clip: StoredClip) -> None:
    evil = array_to_bytes(np.zeros(3, np.float16)).replace(b"'<f2'", b"'|O' ")
    refused(clip, "unpack", "clip", landmarks_npy=evil)


def test_a_clip_without_labels_has_unknown_ones(clip: StoredClip) -> None:
    bare = StoredClip(
        clip.key, {name: data for name, data in clip.members.items() if name != "au.npy"}
    )
    assert (PREPARE(bare, "main", 0, FrameDecoder()).action_units[VIEW] == -1).all()


@patience
def test_mutated_members_are_used_or_refused(clip: StoredClip) -> None:
    chance = random.Random(2)
    decoder = FrameDecoder()
    refusals = 0
    for number in bounded(MUTANTS):
        name = ("json", "landmarks.npy", "au.npy", "mp4")[number % 4]
        mutant = bytearray(clip.members[name])
        for _ in range(chance.choice([1, 1, 2, 6])):
            place = (
                chance.randrange(min(len(mutant), 200))
                if name.endswith("npy")
                else chance.randrange(len(mutant))
            )
            mutant[place] = chance.choice([*b"09{}[]()\"',:eE-.<|O", chance.randrange(256)])
        if chance.random() < 0.05:
            del mutant[chance.randrange(len(mutant)) :]
        try:
            PREPARE(
                StoredClip(clip.key, {**clip.members, name: bytes(mutant)}),
                "main",
                number,
                decoder,
            )
        except MissingClip:
            refusals += 1
    assert MUTANTS / 5 < refusals < MUTANTS


def entry(reason: str, step: int = 0) -> Missing:
    return Missing(step, 0, "main", "shard-000000.tar bytes 0-99", 3, 0, reason, "it was so")


def test_the_ledger_writes_every_line_and_stops_at_the_budget(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", Budgets(decode=0.002))
    ledger.add(8, [entry("decode")])
    ledger.add(8, [entry("decode", 1)])
    with pytest.raises(
        BudgetPassed,
        match=r"3 of 24 clips .* reason 'decode', the budget allows 2.*main/shard-0.*raise data",
    ):
        ledger.add(8, [entry("decode", 2)])
    lines = list(read_json_lines(tmp_path / "ledger.jsonl"))
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert set(lines[0]) == {
        "step",
        "rank",
        "corpus",
        "place",
        "clip",
        "epoch",
        "reason",
        "detail",
    }


def test_a_budget_grows_with_the_clips_seen_and_each_reason_has_its_own(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", Budgets(decode=0.001, unpack=0.001))
    ledger.add(5000, [entry("decode")] * 5)
    ledger.add(1, [entry("unpack")])
    with pytest.raises(BudgetPassed):
        ledger.add(1, [entry("decode")])
    with pytest.raises(BudgetPassed, match="'fetch', the budget allows 0"):
        ledger.add(1, [entry("fetch")])


def test_windows_are_drawn_around_the_labels_that_a_share_of_the_frames_keeps(
    tmp_path: Path,
) -> None:
    corpus = make_corpus(tmp_path, clips=4, frames=60, size=32, action_units=True)
    index = Index.load(str(corpus))
    clips = unpack((corpus / index.chunk(0).shard).read_bytes()[:-1024], 4)
    plan = Needs.union([Needs({VIEW: (0, 10)}, action_units=True, label_offsets=(0, 10))])
    sparse = replace(PREPARE, plan=plan, label_share=0.1)
    kept = set()
    for clip in clips:
        assert isinstance(clip, StoredClip)
        for epoch in range(20):
            prepared = sparse(clip, "main", epoch, FrameDecoder())
            labelled = (prepared.action_units[VIEW] >= 0).any(1)
            assert labelled.any(), (clip.key, epoch)
            numbers = prepared.pixels.start + np.array([0, 10])
            kept |= {(clip.key, int(number)) for number in numbers[labelled]}
    # the same few frames in every epoch
    assert 0.05 * 240 < len(kept) < 0.15 * 240


def test_a_window_that_is_drawn_once_stays_while_augmentation_goes_on(clip: StoredClip) -> None:
    plan = Needs.union([Needs({VIEW: (0,)})])
    once, anew = replace(PREPARE, plan=plan, window_once=True), replace(PREPARE, plan=plan)
    starts, angles = set(), set()
    for epoch in range(12):
        pixels = once(clip, "main", epoch, FrameDecoder()).pixels
        starts.add(pixels.start)
        angles.add(float(pixels.draws[VIEW].angle[0]))
    assert len(starts) == 1
    assert len(angles) == 12
    assert (
        len({anew(clip, "main", epoch, FrameDecoder()).pixels.start for epoch in range(12)}) > 1
    )

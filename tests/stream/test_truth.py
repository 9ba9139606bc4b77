"""The truth table: right decoders are found right on every kind of clip, and a stand-in for
NVDEC that lies is caught and its lie named.
"""

import dataclasses
import itertools
from collections.abc import Collection

import numpy as np
import pytest

from ausl_dist.shards.encode import CODECS, Codec
from ausl_dist.stream.cards import CARD_FRAMES, Kind, card, encode_as, read_back
from ausl_dist.stream.truth import (
    NVDEC,
    WAYS,
    Choice,
    TruthRow,
    choose,
    samples_of,
    table,
    truth,
)
from tests.support.corpora import draw_clip, make_corpus

PYAV = {"pyav": WAYS["pyav"]}
CPU = {name: way for name, way in WAYS.items() if name != NVDEC}
PATIENCE_SECONDS = 20.0


def clip(kind: Kind, frames: int = 8) -> bytes:
    size = max(kind.width, kind.height)
    pictures = draw_clip(3, frames=frames, size=size).frames
    return encode_as(kind, pictures[:, : kind.height, : kind.width])


def with_nvdec(stand_in: str) -> dict[str, str]:
    return {"pyav": WAYS["pyav"], NVDEC: f"tests.stream.liars:{stand_in}"}


def rows_of(
    kinds: list[Kind], ways: dict[str, str], patience: float = PATIENCE_SECONDS
) -> list[TruthRow]:
    samples = {kind: clip(kind) for kind in kinds}
    return table(samples, ways, seconds=0, patience_seconds=patience)


def test_a_cards_numbers_are_read_back_whatever_the_kind() -> None:
    for kind in (Kind("vp9", 64, 64), Kind("h264", 130, 96, matrix="bt709", full=True)):
        pictures = truth(card(kind, 5), range(CARD_FRAMES), kind=kind)
        assert [read_back(picture) for picture in pictures] == [
            (5, n) for n in range(CARD_FRAMES)
        ]
    assert read_back(np.full((64, 64, 3), 128, np.uint8)) is None


SIZES = (64, 96, 128, 256)
STAND_INS = ("Honest", "IgnoringTags", "RefusingSmall")  # for NVDEC


def planted(codec: Codec, size: int) -> Kind:
    """A clip that is not like the others of its corpus: by range, matrix, chroma or size."""
    return {
        64: Kind("h264", 64, 64, full=True),
        96: Kind("h264", 96, 96, matrix="bt709"),
        128: Kind("h264", 128, 128, chroma="444"),
        256: Kind(codec, 200, 136, full=codec == "mjpeg"),
    }[size]


Corpora = dict[tuple[Codec, int], dict[Kind, bytes]]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    """A clip of each kind of twelve corpora, each with one planted clip."""
    folder, found = tmp_path_factory.mktemp("corpora"), {}
    for codec, size in itertools.product(CODECS, SIZES):
        corpus = make_corpus(
            folder / f"{codec}-{size}",
            clips=3,
            frames=8,
            size=size,
            codec=codec,
            planted=clip(planted(codec, size)),
        )
        found[codec, size] = samples_of(str(corpus))
    return found


@pytest.fixture(scope="module")
def rows(corpora: Corpora) -> list[TruthRow]:
    """What every way makes of every kind in them, stand-ins for NVDEC included."""
    samples = {kind: video for found in corpora.values() for kind, video in found.items()}
    ways = CPU | {name: f"tests.stream.liars:{name}" for name in STAND_INS}
    return table(samples, ways, seconds=0, patience_seconds=120)


def auto(rows: list[TruthRow], kinds: Collection[Kind], stand_in: str | None) -> Choice:
    """What data.decoder=auto comes to on a corpus of these kinds, without a GPU or with one
    whose NVDEC is like the stand-in.
    """
    names = {name: name for name in CPU} | ({stand_in: NVDEC} if stand_in else {})
    own = [
        dataclasses.replace(row, way=names[row.way])
        for row in rows
        if row.way in names and row.kind in kinds
    ]
    return choose(own, gpu=stand_in is not None)


@pytest.mark.timeout(300)
def test_every_corpus_is_told_by_its_kinds_and_ffmpeg_is_right_about_all_but_444(
    corpora: Corpora, rows: list[TruthRow]
) -> None:
    for (codec, size), samples in corpora.items():
        usual = Kind(codec, size, size, full=codec == "mjpeg")
        assert list(samples) == [usual, planted(codec, size)], "tags survive"
    for row in rows:
        if row.kind.chroma == "444":
            refused = "yuv444p, the clip says 128 x 128; yuv420p is read"
            assert row.way != "pyav" or refused in (row.wrong or "")
        elif row.way in ("pyav", "Honest"):
            assert row.wrong is None, str(row)
            assert row.psnr is not None
            assert row.psnr > 45
        elif row.way == "dali on the CPU" and row.kind.codec == "h264":
            assert "(h264) is not supported by the CPU variant" in (row.wrong or "")
        elif row.way == "dali on the CPU":
            assert row.wrong is None, str(row)


@pytest.mark.timeout(300)
def test_auto_chooses_rightly_in_each_corpus(corpora: Corpora, rows: list[TruthRow]) -> None:
    for (codec, size), kinds in corpora.items():
        place = f"{codec} {size}"
        without = auto(rows, kinds, None)
        assert (without.device, without.decoder) == ("cpu", "pyav"), place
        honest = auto(rows, kinds, "Honest")
        assert (honest.device, honest.decoder) == ("gpu", "dali"), place
        # one planted clip of another range or matrix is enough, Motion JPEG has full range
        ignoring = auto(rows, kinds, "IgnoringTags")
        wrong = codec == "mjpeg" or size in (64, 96)
        assert ignoring.decoder == ("pyav" if wrong else "dali"), place
        if wrong:
            assert (
                "range is read as" in ignoring.why or "bt709 is read as bt601" in ignoring.why
            )
        small = auto(rows, kinds, "RefusingSmall")
        assert small.decoder == ("dali" if size == 256 else "pyav"), place


LIES = {
    "Neighbours": "wrong frames: frame 3 is frame 2 of its clip",
    "OtherClips": "wrong frames: frame 0 is frame 1 of its clip|one of another clip",
    "OtherRange": "limited range is read as full",
    "OtherMatrix": "bt601 is read as bt709",
    "RedForBlue": "red and blue are exchanged",
    "Refusing": "Resolution 64x64 is not supported",
    "Dying": "died of signal 11",
}


@pytest.fixture(scope="module")
def liars() -> list[TruthRow]:
    kind = Kind("vp9", 96, 96)
    ways = PYAV | {name: f"tests.stream.liars:{name}" for name in LIES}
    return table({kind: clip(kind)}, ways, seconds=0, patience_seconds=60)


@pytest.mark.parametrize("stand_in", LIES)
def test_a_decoder_that_lies_is_caught_and_not_chosen(
    stand_in: str, liars: list[TruthRow]
) -> None:
    (lie,) = [row.wrong for row in liars if row.way == stand_in]
    assert lie is not None
    assert any(words in lie for words in LIES[stand_in].split("|")), lie
    choice = auto(liars, [Kind("vp9", 96, 96)], stand_in)
    assert (choice.device, choice.decoder) == ("gpu", "pyav")
    assert lie in choice.why


def test_a_decoder_that_hangs_is_ended_and_the_other_kinds_are_told() -> None:
    rows = rows_of(
        [Kind("vp9", 64, 64), Kind("vp9", 96, 96)], with_nvdec("Hanging"), patience=6
    )
    assert [row.wrong for row in rows if row.way == NVDEC] == ["hangs: nothing for 6 s"] * 2
    assert [row.wrong for row in rows if row.way == "pyav"] == [None, None]
    assert choose(rows, gpu=True).decoder == "pyav"


def test_speed_is_told_of_one_four_and_eight_clips_at_once() -> None:
    (row,) = table({Kind("vp9", 64, 64): clip(Kind("vp9", 64, 64))}, PYAV, seconds=0.01)
    assert list(row.frames_per_second or {}) == [1, 4, 8]
    assert "frames/s at 1 / 4 / 8" in str(row)


def test_a_corpus_that_no_decoder_takes_is_an_error_that_says_why() -> None:
    rows = rows_of([Kind("h264", 96, 96, chroma="444")], CPU)
    with pytest.raises(ValueError, match=r"no decoder takes.*yuv420p is read"):
        choose(rows, gpu=False)

"""The truth table: right decoders are found right on every kind of clip, and a stand-in for
NVDEC that lies is caught and its lie named.
"""

from pathlib import Path

import numpy as np
import pytest

from ausl_dist.shards.encode import CODECS, Codec
from ausl_dist.stream.cards import CARD_FRAMES, Kind, card, encode_as, kind_of, read_back
from ausl_dist.stream.truth import NVDEC, WAYS, TruthRow, choose, samples_of, table, truth
from tests.support.corpora import draw_clip, make_corpus

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


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.timeout(200)
def test_every_size_of_every_codec_on_a_cpu(codec: Codec, tmp_path: Path) -> None:
    """DALI on a CPU has no H.264 and says so; FFmpeg is right about all, and is what to type."""
    samples = {}
    for size in (64, 96, 128, 256):
        corpus = make_corpus(tmp_path / str(size), clips=2, frames=8, size=size, codec=codec)
        samples |= samples_of(str(corpus))
    assert [kind.width for kind in samples] == [64, 96, 128, 256]
    rows = table(samples, CPU, seconds=0.02, patience_seconds=60)
    for row in rows:
        if row.way == "pyav" or codec != "h264":
            assert row.wrong is None, str(row)
            assert row.psnr is not None
            assert row.psnr > 45
            assert list(row.frames_per_second or {}) == [1, 4, 8]
        else:
            assert "(h264) is not supported by the CPU variant" in (row.wrong or "")
    choice = choose(rows, gpu=False)
    assert (choice.device, choice.decoder) == ("cpu", "pyav")


PLANTED = [
    Kind("vp9", 96, 96),
    Kind("h264", 96, 96, full=True),
    Kind("h264", 96, 96, matrix="bt709"),
    Kind("vp9", 130, 98),
    Kind("h264", 96, 96, chroma="444"),
]


@pytest.mark.timeout(200)
def test_planted_clips_of_other_range_matrix_chroma_and_size() -> None:
    samples = {kind: clip(kind) for kind in PLANTED}
    assert [kind_of(video) for video in samples.values()] == PLANTED, "tags survive"
    rows = {row.kind: row for row in table(samples, {"pyav": WAYS["pyav"]}, seconds=0)}
    assert [str(row) for row in list(rows.values())[:4] if row.wrong] == []
    assert "yuv444p, the clip says 96 x 96; yuv420p is read" in (rows[PLANTED[4]].wrong or "")


LIES = {
    "Neighbours": "wrong frames: frame 3 is frame 2 of its clip",
    "OtherClips": "wrong frames: frame 0 is frame 1 of its clip|one of another clip",
    "OtherRange": "limited range is read as full",
    "OtherMatrix": "bt601 is read as bt709",
    "RedForBlue": "red and blue are exchanged",
    "Refusing": "Resolution 64x64 is not supported",
    "Dying": "died of signal 11",
}


@pytest.mark.parametrize("stand_in", LIES)
def test_a_decoder_that_lies_is_caught_and_not_chosen(stand_in: str) -> None:
    rows = rows_of([Kind("vp9", 96, 96)], with_nvdec(stand_in))
    (lie,) = [row.wrong for row in rows if row.way == NVDEC]
    assert lie is not None
    assert any(words in lie for words in LIES[stand_in].split("|")), lie
    choice = choose(rows, gpu=True)
    assert (choice.device, choice.decoder) == ("gpu", "pyav")
    assert lie in choice.why


def test_a_decoder_that_hangs_is_ended_and_the_other_kinds_are_told() -> None:
    rows = rows_of(
        [Kind("vp9", 64, 64), Kind("vp9", 96, 96)], with_nvdec("Hanging"), patience=6
    )
    assert [row.wrong for row in rows if row.way == NVDEC] == ["hangs: nothing for 6 s"] * 2
    assert [row.wrong for row in rows if row.way == "pyav"] == [None, None]
    assert choose(rows, gpu=True).decoder == "pyav"


def test_an_honest_decoder_is_chosen() -> None:
    rows = rows_of([Kind("vp9", 96, 96), Kind("h264", 96, 96)], with_nvdec("Honest"))
    choice = choose(rows, gpu=True)
    assert (choice.device, choice.decoder) == ("gpu", "dali")


def test_one_kind_that_the_gpu_refuses_sends_the_corpus_to_the_cpu() -> None:
    kinds = [Kind("vp9", 160, 160), Kind("vp9", 64, 64)]
    rows = rows_of(kinds, with_nvdec("RefusingSmall"))
    assert [row.wrong is None for row in rows if row.way == NVDEC] == [True, False]
    choice = choose(rows, gpu=True)
    assert (choice.device, choice.decoder) == ("gpu", "pyav")
    assert "64 x 64" in choice.why
    assert "under 130 pixels" in choice.why


def test_a_corpus_that_no_decoder_takes_is_an_error_that_says_why() -> None:
    rows = rows_of([Kind("h264", 96, 96, chroma="444")], CPU)
    with pytest.raises(ValueError, match=r"no decoder takes.*yuv420p is read"):
        choose(rows, gpu=False)

"""`data.decoder=auto`: what it comes to on a machine without a GPU and with one, the same on
all.
"""

from pathlib import Path

import pytest

from ausl_dist.batch import Needs, View
from ausl_dist.shards.encode import CODECS
from ausl_dist.stream import chosen
from ausl_dist.stream.settings import CorpusSource, DataSettings
from ausl_dist.stream.truth import NVDEC, WAYS, Choice
from tests.support.corpora import make_corpus

PLAN = Needs.union([Needs({View(): (0,)})])
NVDEC_RIGHT, NVDEC_WRONG = Choice("gpu", "dali", "right"), Choice("gpu", "pyav", "wrong here")


def settings(url: object, **changes: str) -> DataSettings:
    return DataSettings(corpora={"main": CorpusSource(str(url))}, **changes)  # type: ignore[arg-type]


def ways(stand_in: str) -> dict[str, str]:
    return {"pyav": WAYS["pyav"], NVDEC: f"tests.stream.liars:{stand_in}"}


def test_without_a_gpu_nothing_is_tried() -> None:
    choice = chosen.decide(settings("nowhere"), PLAN, gpu=False)
    assert (choice.device, choice.decoder) == ("cpu", "pyav")


def test_what_is_named_is_taken() -> None:
    choice = chosen.decide(settings("nowhere", device="gpu", decoder="dali"), PLAN, gpu=True)
    assert choice == Choice("gpu", "dali", "by the settings")


def test_motion_that_the_loader_measures_needs_frames_on_the_cpu() -> None:
    view = View()
    needs = Needs({view: (0, 2)}, flow_gap=2, flow_measured=(view,))
    choice = chosen.decide(settings("nowhere"), Needs.union([needs]), gpu=True)
    assert (choice.device, choice.decoder) == ("gpu", "pyav")
    assert "motion" in choice.why


@pytest.mark.parametrize(
    ("stand_in", "decoder"), [("Honest", "dali"), ("RefusingSmall", "pyav")]
)
def test_with_a_gpu_the_corpora_decide(tmp_path: Path, stand_in: str, decoder: str) -> None:
    """Small frames in three codecs, as some front ends of NVDEC refuse them."""
    corpora = {
        codec: CorpusSource(str(make_corpus(tmp_path / codec, clips=2, frames=8, codec=codec)))
        for codec in CODECS
    }
    choice = chosen.decide(DataSettings(corpora=corpora), PLAN, gpu=True, ways=ways(stand_in))
    assert (choice.device, choice.decoder) == ("gpu", decoder)


def test_a_corpus_that_cannot_be_read_yet_is_no_reason_to_end(tmp_path: Path) -> None:
    choice = chosen.decide(settings(tmp_path / "nowhere"), PLAN, gpu=True)
    assert choice.decoder == "pyav"
    assert "could not be tried" in choice.why


def test_one_node_whose_gpu_is_wrong_decides_for_all() -> None:
    assert chosen.agree_on([NVDEC_RIGHT, NVDEC_RIGHT]) == NVDEC_RIGHT
    assert chosen.agree_on([NVDEC_RIGHT, NVDEC_WRONG, NVDEC_RIGHT]) == NVDEC_WRONG


def test_settings_take_the_choice() -> None:
    data = chosen.apply(settings("x"), NVDEC_RIGHT)
    assert (data.device, data.decoder) == ("gpu", "dali")

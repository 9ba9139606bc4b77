"""Features that depend on the company a clip is in, or on another crop than the bundle's,
cannot be compared with anything.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.evaluate.compare import compare
from ausl_dist.evaluate.features.table import extract
from ausl_dist.model.backbones import Backbone, BackboneSettings, build_backbone
from ausl_dist.model.encode import PASS_FRAMES, encode_frames
from ausl_dist.stream.scan import scan
from tests.support.corpora import make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return str(
        make_corpus(
            tmp_path_factory.mktemp("labelled"), clips=16, frames=20, size=64, action_units=True
        )
    )


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return build_backbone(BackboneSettings("resnet10t", 32)).eval()


def test_a_frame_has_the_same_features_to_the_bit_whatever_else_is_encoded(
    backbone: Backbone,
) -> None:
    torch.manual_seed(1)
    long, short = torch.randn(3 * PASS_FRAMES + 5, 3, 32, 32), torch.randn(4, 3, 32, 32)
    before = encode_frames(backbone, long)
    encode_frames(backbone, short)
    assert torch.equal(encode_frames(backbone, long), before)
    assert torch.equal(
        encode_frames(backbone, long[: PASS_FRAMES + 1]), before[: PASS_FRAMES + 1]
    )


def test_features_in_training_mode_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="eval"):
        encode_frames(backbone.train(), torch.zeros(1, 3, 32, 32))
    backbone.eval()


def test_a_table_holds_every_labelled_frame_with_its_label_and_subject(
    corpus: str, backbone: Backbone
) -> None:
    clips = list(scan(corpus, image_size=32))
    table = extract({"a": backbone}, clips)["a"]
    assert len(table) == 16 * 20
    assert table.action_units == (1, 12, 26)
    assert len(table.present_subjects()) == 4
    row = 3 * 20 + 7
    assert (table.clips[table.clip[row]], table.frame[row]) == (clips[3].key, 7)
    assert clips[3].action_units is not None
    np.testing.assert_array_equal(table.labels[row], clips[3].action_units[7])
    assert torch.equal(
        torch.from_numpy(table.features[row]), encode_frames(backbone, clips[3].frames)[7]
    )


def test_every_nth_frame_gives_the_same_features_up_to_rounding(
    corpus: str, backbone: Backbone
) -> None:
    whole, thinned = (
        extract({"a": backbone}, scan(corpus, image_size=32, stride=stride))["a"]
        for stride in (1, 5)
    )
    chosen = np.flatnonzero(whole.frame % 5 == 0)
    np.testing.assert_array_equal(thinned.labels, whole.labels[chosen])
    np.testing.assert_array_equal(thinned.fingerprint, whole.fingerprint[chosen])
    np.testing.assert_allclose(thinned.features, whole.features[chosen], atol=1e-5)


def test_two_backbones_are_compared_on_the_same_frames_in_one_pass(
    corpus: str, backbone: Backbone
) -> None:
    torch.manual_seed(2)
    other = build_backbone(BackboneSettings("resnet10t", 32)).eval()
    result = compare(extract({"one": backbone, "two": other}, scan(corpus, image_size=32)))
    assert [row.name for row in result.rows] == ["one", "two", "constant", "guess"]
    assert np.isfinite(result.rows[0].scores["icc"].mean)


def test_a_corpus_without_labels_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    url = str(make_corpus(tmp_path, clips=2, frames=20, size=64))
    with pytest.raises(ValueError, match="no labelled frame"):
        extract({"a": backbone}, scan(url, image_size=32))

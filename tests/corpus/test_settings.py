"""Settings that cannot work are refused before hours of work."""

from pathlib import Path

import pytest

from ausl_dist.corpus.settings import CorpusSettings
from tools.build_corpus import read_settings

CONFIG = Path(__file__).parents[2] / "configs" / "corpus" / "default.yaml"


def test_the_default_file_says_what_the_defaults_are() -> None:
    assert read_settings(CONFIG, []) == CorpusSettings()


def test_one_setting_on_top() -> None:
    settings = read_settings(CONFIG, ["clips.seconds=2", "quality.duplicate_bits=-1"])
    assert (settings.clips.seconds, settings.quality.duplicate_bits) == (2.0, -1)
    assert settings.digest != CorpusSettings().digest


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("clips.second=2", "did you mean clips.seconds"),
        ("clips.seconds=0.5", "min_seconds <= seconds"),
        ("clips.overlap_seconds=5", "overlap_seconds < seconds"),
        ("clips.seconds=400", "4096 frames"),
        ("clips.codec=av1", "vp9, h264"),
        ("read.fps=0", "fps"),
        ("read.max_side=100000", "max_side"),
        ("faces.max_faces=0", "max_faces"),
        ("labels.share=0", "share"),
        ("flow.gap_frames=30", "below clips.min_seconds"),
        ("flow.estimator=farneback", "dis_medium"),
        ("flow.cells=33", "divide 256"),
        ("max_shard_bytes=5", "1 MiB"),
        ("clips=", "group of settings"),
    ],
)
def test_impossible_settings_are_refused_with_a_sentence(override: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_settings(None, [override])

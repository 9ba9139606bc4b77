"""Settings that cannot work are refused before hours of work."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ausl_dist.corpus.settings import CorpusSettings
from tools.build_corpus import read_settings


def test_a_corpus_says_its_settings_as_they_are_read_again(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    OmegaConf.save(OmegaConf.create(CorpusSettings().to_dict()), config)
    assert read_settings(config, []) == CorpusSettings()


def test_one_setting_on_top_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("clips: {seconds: 4, min_seconds: 1}\n")
    settings = read_settings(config, ["clips.seconds=2", "quality.duplicate_bits=-1"])
    assert (settings.clips.seconds, settings.clips.min_seconds) == (2.0, 1.0)
    assert settings.quality.duplicate_bits == -1
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

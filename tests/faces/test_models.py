"""Only the pinned models are used: another detector would make another corpus."""

import hashlib
from pathlib import Path

import pytest

from ausl_dist.faces.models import MODELS, Model, fetch_model, find_model, models_id

DATA = b"weights"
MODEL = Model(
    "net.onnx", hashlib.sha256(DATA).hexdigest(), "https://example.org/net.onnx", "MIT"
)


def test_a_model_is_found_in_the_folder_named_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.onnx").write_bytes(DATA)
    assert find_model(MODEL, tmp_path) == tmp_path / "net.onnx"
    monkeypatch.setenv("AUSL_MODELS", str(tmp_path))
    assert find_model(MODEL) == tmp_path / "net.onnx"
    monkeypatch.delenv("AUSL_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="fetch_models"):
        find_model(MODEL)


def test_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(DATA)
    assert find_model(MODEL, tmp_path)
    path.write_bytes(b"tampered!")
    with pytest.raises(ValueError, match="SHA-256"):
        find_model(MODEL, tmp_path)


def test_fetching_saves_only_the_right_bytes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    assert fetch_model(MODEL, tmp_path / "to", source.as_uri()).read_bytes() == DATA
    source.write_bytes(b"another file")
    with pytest.raises(ValueError, match="nothing was saved"):
        fetch_model(MODEL, tmp_path / "elsewhere", source.as_uri())
    assert not (tmp_path / "elsewhere" / "net.onnx").exists()
    with pytest.raises(OSError, match="could not be fetched"):
        fetch_model(MODEL, tmp_path / "elsewhere", (tmp_path / "absent").as_uri())


def test_the_pins_are_whole_and_name_the_detector() -> None:
    assert all(len(model.sha256) == 64 and model.url.startswith("https://") for model in MODELS)
    assert MODELS[0].sha256[:12] in models_id()
    assert MODELS[1].sha256[:12] in models_id()


def test_the_models_at_hand_are_the_pinned_ones(faces: Path) -> None:
    for model in MODELS:
        find_model(model, faces / "models")

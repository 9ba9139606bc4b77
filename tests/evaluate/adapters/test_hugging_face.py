"""A folder of Hugging Face is weights and settings; the code in it is somebody else's."""

import json
from pathlib import Path

import pytest
import torch

from ausl_dist.evaluate.adapters import ForeignSettings, open_foreign


@pytest.mark.parametrize("kind", ["vit", "their_own"])
def test_code_in_a_folder_of_hugging_face_is_never_run(tmp_path: Path, kind: str) -> None:
    """Neither for a model that is known nor for one that is not, in none of its files."""
    ran = tmp_path / "ran"
    for name in ("configuration_theirs", "modeling_theirs", "processing_theirs"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass A: ...\n")
    code = {"AutoConfig": "configuration_theirs.A", "AutoModel": "modeling_theirs.A"}
    config = {"model_type": kind, "auto_map": code, "architectures": ["A"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"auto_map": {"AutoImageProcessor": "processing_theirs.A"}})
    )
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises((ValueError, OSError)):
        open_foreign(ForeignSettings("hugging_face", weights=str(tmp_path)))
    assert not ran.exists()

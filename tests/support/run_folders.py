"""A run folder as training leaves it, with a tiny backbone of random weights, for the tests of
releases.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from ausl_dist.faces.landmarks import template_id
from ausl_dist.files import sha256_of, write_atomically
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.model.objective_settings import build_objective
from ausl_dist.model.readout import ReadoutSettings
from ausl_dist.run_folder import MANIFEST_FILE, manifest_text, step_of

TINY = "resnet10t"
SIZE = 32


def make_run(
    folder: Path,
    *,
    name: str = TINY,
    size: int = SIZE,
    seed: int = 0,
    readout: Mapping[str, Any] | None = None,
    action_units: Mapping[str, Any] | None = None,
) -> Path:
    """RUN/config.yaml, record.json and one checkpoint with a backbone; the corpus statement
    lies beside the run.

    With `action_units`, settings of that objective, the run trained an action-unit head too.
    """
    run = folder / "run"
    checkpoint = run / "checkpoints" / "step-00000007"
    checkpoint.mkdir(parents=True)
    torch.manual_seed(seed)
    read = ReadoutSettings(**(readout or {}))
    backbone = build_backbone(BackboneSettings(name, size, readout=read))
    save_file(backbone.weights(), checkpoint / "backbone.safetensors")
    objectives: dict[str, Any] = {
        "ranking": {"_target_": "ausl_dist.objectives.temporal_ranking.TemporalRanking"}
    }
    if action_units is not None:
        objectives["units"] = {
            "_target_": "ausl_dist.objectives.action_units.ActionUnits",
            **action_units,
        }
        head = build_objective(objectives["units"], feature_dim=backbone.dim).state_dict()
        save_file(
            {f"units.{key}": tensor for key, tensor in head.items()},
            checkpoint / "objectives.safetensors",
        )
    complete(checkpoint)
    corpus = _stated_corpus(folder / "corpus")
    config = {
        "name": "tiny",
        "folder": str(run),
        "steps": 7,
        "data": {
            "corpora": {"main": {"url": str(corpus)}},
            "image_size": size,
            "action_units": list((action_units or {}).get("units", ())),
        },
        "backbone": {"name": name, "image_size": size, "readout": dict(readout or {})},
        "objectives": objectives,
        "mixture": dict.fromkeys(objectives, 1.0),
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "record.json").write_text(
        json.dumps({"packages": {"torch": torch.__version__}, "starts": [{"step": 0}]})
    )
    return run


def _stated_corpus(folder: Path) -> Path:
    folder.mkdir()
    statement = {
        "name": "drawn",
        "clips": 3,
        "identities": 2,
        "sources": 2,
        "seconds": 9.0,
        "fps": 25.0,
        "licences": {"CC0": 3},
        "detector": "rendered",
        "alignment": template_id(),
    }
    (folder / "corpus.json").write_text(json.dumps(statement))
    return folder


def checkpoint_of(run: Path) -> Path:
    return run / "checkpoints" / "step-00000007"


def complete(checkpoint: Path) -> None:
    """Give a checkpoint the manifest that makes it count as complete."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(checkpoint.iterdir())
        if path.name != MANIFEST_FILE
    }
    text = manifest_text(step_of(checkpoint), files)
    write_atomically(checkpoint / MANIFEST_FILE, text)

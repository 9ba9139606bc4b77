"""A finished run becomes a bundle: a folder with everything needed to use its backbone, and to know what it is.

    RUN/checkpoints/step-…/backbone.safetensors ──▶ model.safetensors     weights under timm's names
    RUN/config.yaml ──▶ config.json                                       what timm needs to build the network
    corpus.json beside the shards ──▶ corpus.json, preprocessing.json     what it was trained on, and how faces were cropped
    RUN/record.json, config.yaml, ledger ──▶ record.json                  code, packages, hosts, resumes, resolved config, missing clips
    the run's own head, or a probe ──▶ head.json, head.safetensors        action-unit scores, where somebody fitted them
    RUN/evaluation/NAME/ ──▶ evaluation/NAME/                             scores beside their baselines
                    ──▶ exports/                                          ONNX, weights of half the size (on demand)
                    ──▶ README.md, SHA256SUMS                             the model card; the checksum of every file

The bundle is built in a temporary folder beside `out` and renamed at the end. It holds no clock of its own: the same run released
twice gives the same bytes.
"""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ausl_dist import __version__
from ausl_dist.files import read_json, sha256_of, write_atomically, write_json
from ausl_dist.release.card import CardFacts, model_card
from ausl_dist.release.export import write_exports
from ausl_dist.release.fitted import find_head
from ausl_dist.release.head import write_head
from ausl_dist.release.network import CONFIG_NAME, WEIGHTS_NAME, load_tensors, timm_config
from ausl_dist.release.preprocessing import PREPROCESSING_NAME, Preprocessing, describe
from ausl_dist.release.run import Run, Weights, open_run, read_statements
from ausl_dist.release.verify import write_sums

CORPUS_NAME = "corpus.json"
RECORD_NAME = "record.json"
CARD_NAME = "README.md"
EVALUATION_NAME = "evaluation"
EXPORTS_NAME = "exports"
EVALUATION_FILES = ("report.json", "report.md", "report.html")  # predictions stay in the run folder: labels are often not ours to pass on


def write_bundle(
    run_folder: Path | str,
    out: Path | str,
    *,
    checkpoint: Path | str | None = None,
    corpora: Mapping[str, Mapping[str, Any]] | None = None,
    evaluations: Mapping[str, Path] | None = None,
    exports: Sequence[str] = (),
    weights: Weights = "student",
    head: Path | str = "run",
    licence: str = "other",
) -> str:
    """Write the bundle of a run into the folder `out` and return its identity (the SHA-256 of its SHA256SUMS).

    `checkpoint` defaults to the newest complete one, `corpora` (statements by name) to those beside the shards, `evaluations` (folders
    with a report.json, by name) to those under RUN/evaluation. `head` is "run" (the action-unit head that the run trained, if it did),
    "none", or the folder of an evaluation whose linear probe is taken. Raises ValueError, with what to do, when the run has no complete
    checkpoint, a corpus cannot be read, an evaluation or a head is of other weights, or `out` holds something else.
    """
    out = Path(out)
    run = open_run(Path(run_folder), None if checkpoint is None else Path(checkpoint), weights)
    statements = read_statements(run, corpora or {})
    preprocessing = describe(list(statements.values()), run.settings.backbone.image_size)
    if evaluations is None:
        evaluations = {report.parent.name: report.parent for report in sorted((run.folder / EVALUATION_NAME).glob("*/report.json"))}
    if out.exists() and not (out / CONFIG_NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} holds something that is no bundle; choose an empty folder with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        identity = _fill(staging, run, statements, preprocessing, evaluations, exports, head, licence)
        staging.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        os.replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return identity


def _fill(
    folder: Path,
    run: Run,
    corpora: Mapping[str, Mapping[str, Any]],
    preprocessing: Preprocessing,
    evaluations: Mapping[str, Path],
    exports: Sequence[str],
    head_choice: Path | str,
    licence: str,
) -> str:
    settings = run.settings
    backbone = load_tensors(settings.backbone, run.read_weights(), str(run.checkpoint))
    write_atomically(folder / WEIGHTS_NAME, save({name: tensor.contiguous() for name, tensor in sorted(backbone.net.state_dict().items())}))
    write_json(folder / CONFIG_NAME, timm_config(settings.backbone, backbone, preprocessing))
    write_json(folder / PREPROCESSING_NAME, preprocessing.to_json())
    write_json(folder / CORPUS_NAME, corpora)
    record = {"run": settings.name, "step": run.step, "weights": run.weights, "config": dataclasses.asdict(settings), "record": run.record}
    write_json(folder / RECORD_NAME, record | {"data": run.data_summary()})
    head = find_head(run, head_choice, weights_sha256 := sha256_of(folder / WEIGHTS_NAME))
    if head is not None:
        write_head(folder, head)
    errors = write_exports(folder / EXPORTS_NAME, backbone, settings.backbone.image_size, exports)
    reports = _copy_evaluations(evaluations, folder / EVALUATION_NAME, weights_sha256)
    facts = CardFacts(
        name=settings.name,
        licence=licence,
        architecture=settings.backbone.name,
        dim=backbone.dim,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        step=run.step,
        objectives=settings.mixture,
        corpora=corpora,
        preprocessing=preprocessing,
        head=None if head is None else head.spec,
        reports=reports,
        export_errors=errors,
        version=__version__,
    )
    write_atomically(folder / CARD_NAME, model_card(facts))
    return write_sums(folder)


def _copy_evaluations(sources: Mapping[str, Path], target: Path, weights_sha256: str) -> dict[str, str]:
    """Copy the reports of evaluations of exactly these weights; returns their Markdown tables by name."""
    tables = {}
    for name, source in sorted(sources.items()):
        evaluated = read_json(source / "report.json").get("backbone", {}).get("weights_sha256")
        if evaluated != weights_sha256:
            raise ValueError(
                f"the evaluation {source} is of other weights than this release (SHA-256 {evaluated}, not {weights_sha256}): "
                "evaluate again, or leave it out with --evaluation none"
            )
        for file in EVALUATION_FILES:
            if (source / file).is_file():
                write_atomically(target / name / file, (source / file).read_bytes())
        tables[name] = (source / "report.md").read_text(encoding="utf-8")
    return tables

"""A finished run becomes a bundle: a folder with everything needed to use its backbone, and to
know what it is.

    from                                 file of the bundle
    RUN/checkpoints/step-…/              model.safetensors     weights under timm's names
                                         readout.safetensors   where the readout is learnt
    RUN/config.yaml                      config.json           what timm needs to build the network
    corpus.json beside the shards        corpus.json           what it was trained on
                                         preprocessing.json    how faces were cropped
    RUN/record.json, config.yaml, ledger record.json           code, packages, hosts, every resume
    the run's own head, or a probe       head.json, head.safetensors   action-unit scores
    RUN/evaluation/NAME/                 evaluation/NAME/      scores beside their baselines
    the detection models                 models/               enough to go from a video to features
    faces of videos, or rendered ones    tolerance.json        what a misplaced crop changes
    on demand                            exports/              ONNX, weights of half the size
    the online probe, or the loss        training.svg          the card's picture
    all of it                            README.md, SHA256SUMS the model card; every checksum

The bundle is built in a temporary folder beside `out` and renamed at the end. It holds no clock
of its own: the same run released twice gives the same bytes, and with `write_named_bundle` the
same name.
"""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ausl_dist.files import as_ours, read_json, remove_tree, write_atomically, write_json
from ausl_dist.model.backbones import Backbone
from ausl_dist.release.card import CardFacts, misplaced_scores, model_card
from ausl_dist.release.detection import carry_models
from ausl_dist.release.export import write_exports
from ausl_dist.release.fitted import find_head, supervised_objectives
from ausl_dist.release.head import write_head
from ausl_dist.release.licences import Source, check_licence, sources_of
from ausl_dist.release.load import CORPUS_NAME, RECORD_NAME
from ausl_dist.release.network import (
    CONFIG_NAME,
    load_tensors,
    timm_config,
    weight_files,
    weights_sha256,
)
from ausl_dist.release.picture import PICTURE_NAME, draw_training
from ausl_dist.release.preprocessing import PREPROCESSING_NAME, Preprocessing, describe
from ausl_dist.release.reference import reference_faces
from ausl_dist.release.run import OpenedRun, Weights, open_run, read_statements
from ausl_dist.release.tolerance import measure_tolerance, to_json
from ausl_dist.release.trained import trained_line
from ausl_dist.release.verify import SUMS_NAME, read_sums, release_name, write_sums
from ausl_dist.version import __version__

CARD_NAME = "README.md"
EVALUATION_NAME = "evaluation"
EXPORTS_NAME = "exports"
TOLERANCE_NAME = "tolerance.json"
# predictions stay in the run folder: labels are often not ours to pass on
EVALUATION_FILES = (
    "report.json",
    "report.md",
    "report.html",
)


@dataclass(frozen=True)
class _Wanted:
    """What goes into a bundle besides the backbone."""

    corpora: Mapping[str, Mapping[str, Any]]
    evaluations: Mapping[str, Path]
    exports: Sequence[str]
    head: Path | str
    faces: Sequence[str]
    models: Path | None
    licence: str
    sources: Sequence[Source]


def write_bundle(
    run_folder: Path | str,
    out: Path | str,
    *,
    checkpoint: Path | str = "newest",
    corpora: Mapping[str, Mapping[str, Any]] | None = None,
    evaluations: Mapping[str, Path] | None = None,
    exports: Sequence[str] = (),
    weights: Weights = "student",
    head: Path | str = "run",
    faces: Sequence[str] = (),
    models: Path | None = None,
    licence: str = "other",
) -> str:
    """Write the bundle of a run into the folder `out` and return its identity (the SHA-256 of
    its SHA256SUMS).

    `checkpoint` is "newest" (complete), "best" (by the online probe) or a folder. `corpora`
    (statements by name) default to those beside the shards, `evaluations` (folders with a
    report.json, by name) to those under RUN/evaluation. `head` is "run" (the action-unit head
    that the run trained, if it did), "none", or the folder of an evaluation whose linear probe
    is taken. `faces` names videos, pictures or folders to measure on, instead of rendered
    faces; `models` the folder of the detection models, where they are not in their usual place.
    Raises ValueError, with what to do, when the run has no such checkpoint, a corpus cannot be
    read, an evaluation or a head is of other weights, `out` holds something else, or `licence`
    is permissive and that of a source is not.
    """
    out = Path(out)
    run = open_run(Path(run_folder), checkpoint, weights)
    statements = read_statements(run, corpora or {})
    sources = sources_of(statements, run.settings.backbone.weights)
    check_licence(licence, sources)
    if evaluations is None:
        evaluations = {
            report.parent.name: report.parent
            for report in sorted((run.folder / EVALUATION_NAME).glob("*/report.json"))
        }
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        identity = _fill(
            staging,
            run,
            _Wanted(statements, evaluations, exports, head, faces, models, licence, sources),
        )
        staging.chmod(0o755)
        if out.exists():
            _check_replaceable(out)  # again: hours may have passed
            remove_tree(out)
        os.replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return identity


def _check_replaceable(out: Path) -> None:
    """Raise ValueError where there is something at `out` that is not a bundle and nothing but
    that: it would be lost.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    here = [path for path in out.rglob("*") if not path.is_dir()] if out.is_dir() else [out]
    named = {SUMS_NAME, *read_sums(out)} if (out / SUMS_NAME).is_file() else set()
    others = [path for path in here if path.relative_to(out).as_posix() not in named]
    if others:
        raise ValueError(
            f"{out} holds something that is no bundle ({others[0].name}); "
            "choose an empty folder with --out"
        )


def write_named_bundle(run_folder: Path | str, folder: Path | str, **choices: Any) -> Path:
    """Write the bundle of a run as FOLDER/NAME-STEP-HASH, a name made of its content, and
    return that path.

    A bundle of that name holds the very same bytes, and stays. `choices` are those of
    `write_bundle`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".release-", dir=folder) as staging:
        made = Path(staging) / "bundle"
        identity = write_bundle(run_folder, made, **choices)
        record = read_json(made / RECORD_NAME)
        named = folder / release_name(record["run"], record["step"], identity)
        if not named.exists():
            os.rename(made, named)
    return named


def _fill(folder: Path, run: OpenedRun, wanted: _Wanted) -> str:
    settings = run.settings
    preprocessing = describe(list(wanted.corpora.values()), settings.backbone.image_size)
    backbone = _write_backbone(folder, run, preprocessing)
    write_json(folder / CORPUS_NAME, wanted.corpora)
    write_json(folder / RECORD_NAME, _record(run))
    carries_models = carry_models(folder, wanted.models)
    own_weights = weights_sha256(folder)
    head = find_head(run, wanted.head, own_weights)
    if head is not None:
        write_head(folder, head)
    faces = reference_faces(wanted.faces, preprocessing, wanted.models)
    # a recurrent one wants videos
    still = (
        None
        if head is None or head.spec.context
        else head.built_on(backbone.dim, backbone.map_dim)
    )
    tolerance = measure_tolerance(backbone, faces, preprocessing, still)
    write_json(folder / TOLERANCE_NAME, to_json(tolerance, faces))
    errors = write_exports(
        folder / EXPORTS_NAME, backbone, faces.inputs(preprocessing), wanted.exports
    )
    if errors:
        write_json(
            folder / EXPORTS_NAME / "errors.json",
            {"faces": faces.source, "relative_feature_error": errors},
        )
    reports = _copy_evaluations(wanted.evaluations, folder / EVALUATION_NAME, own_weights)
    picture = draw_training(run.folder, run.step)
    if picture is not None:
        write_atomically(folder / PICTURE_NAME, picture.svg)
    facts = CardFacts(
        name=settings.name,
        licence=wanted.licence,
        architecture=settings.backbone.name,
        readout=settings.backbone.readout.kind,
        dim=backbone.dim,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        step=run.step,
        chosen=run.chosen,
        objectives=settings.mixture,
        supervised=bool(supervised_objectives(run)),
        corpora=wanted.corpora,
        sources=wanted.sources,
        preprocessing=preprocessing,
        carries_models=carries_models,
        head=None if head is None else head.spec,
        reports=reports,
        measured_on=faces.source,
        tolerance=tolerance,
        export_errors=errors,
        version=__version__,
        trained=trained_line(run.record),
        picture=picture,
    )
    write_atomically(folder / CARD_NAME, model_card(facts))
    return write_sums(folder)


def _write_backbone(folder: Path, run: OpenedRun, preprocessing: Preprocessing) -> Backbone:
    """The run's backbone, after writing its weights and what builds and feeds it."""
    settings = run.settings.backbone
    backbone = load_tensors(settings, run.read_weights(), str(run.checkpoint))
    for name, tensors in weight_files(backbone).items():
        write_atomically(folder / name, save(tensors))
    write_json(folder / CONFIG_NAME, timm_config(settings, backbone, preprocessing))
    write_json(folder / PREPROCESSING_NAME, preprocessing.to_json())
    return backbone


def _record(run: OpenedRun) -> dict[str, Any]:
    """record.json: which weights of which run these are, and everything the run says of itself."""
    return {
        "run": run.settings.name,
        "step": run.step,
        "chosen": run.chosen,
        "weights": run.weights,
        "config": dataclasses.asdict(run.settings),
        "record": run.record,
        "data": run.data_summary(),
    }


def _copy_evaluations(
    sources: Mapping[str, Path], target: Path, own_weights: str
) -> dict[str, str]:
    """Copy the reports of evaluations of exactly these weights; returns their Markdown tables
    by name.
    """
    tables = {}
    for name, source in sorted(sources.items()):
        report = read_json(source / "report.json")
        with as_ours(source / "report.json"):
            evaluated = report.get("backbone", {}).get("weights_sha256")
        if evaluated != own_weights:
            raise ValueError(
                f"the evaluation {source} is of other weights than this release (SHA-256 "
                f"{evaluated}, not {own_weights}): "
                "evaluate again, or leave it out with --evaluation none"
            )
        for file in EVALUATION_FILES:
            if (source / file).is_file():
                write_atomically(target / name / file, (source / file).read_bytes())
        with as_ours(source / "report.json"):
            misplaced = misplaced_scores(report)
        tables[name] = (source / "report.md").read_text(encoding="utf-8") + misplaced
    return tables

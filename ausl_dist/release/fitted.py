"""Heads that somebody has fitted already: by the run itself, or by an evaluation of its
backbone.

RUN/checkpoints/step-…/objectives.safetensors     the objective `action_units`, trained with the backbone ──┐
EVALUATION/report.json, probe.safetensors         linear probes on frozen features, one for each fold
                                                  ──────┴──▶ Head
"""

from pathlib import Path

from ausl_dist.files import as_ours, read_json
from ausl_dist.model.objective_settings import build_objective
from ausl_dist.objectives.action_units import ActionUnits
from ausl_dist.release.head import PROBE_NAME, Head, Task, read_tensors
from ausl_dist.release.over_time import Context
from ausl_dist.release.run import OpenedRun

OBJECTIVE = f"{ActionUnits.__module__}.{ActionUnits.__qualname__}"


def find_head(run: OpenedRun, choice: Path | str, weights_sha256: str) -> Head | None:
    """The head to release: "run" is the one that the run trained, if it did; "none" is none;
    else the folder of an evaluation.

    Raises ValueError, with what to do, where a head is there but cannot be released.
    """
    if choice == "none":
        return None
    return _trained(run) if choice == "run" else _probe(Path(choice), weights_sha256)


def supervised_objectives(run: OpenedRun) -> list[str]:
    """The names of the run's objectives that learn from labels."""
    return [
        name
        for name, settings in run.settings.objectives.items()
        if settings.get("_target_") == OBJECTIVE
    ]


def _trained(run: OpenedRun) -> Head | None:
    names = supervised_objectives(run)
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(
            f"the run trains {len(names)} heads ({', '.join(names)}): release it with --head none"
        )
    if run.weights == "teacher":
        raise ValueError(
            "the run's action-unit head was trained on the student's features: "
            "release the teacher with --head none"
        )
    prefix = f"{names[0]}."
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in run.read_objectives().items()
        if name.startswith(prefix)
    }
    if not {"head.weight", "head.bias"} <= tensors.keys():
        raise ValueError(
            f"{run.checkpoint} holds no head of {names[0]}: release with --head none, "
            "or --head DIR of an evaluation"
        )
    # its first weights may be gone by now, and are not needed
    settings = {**run.settings.objectives[names[0]], "context_weights": None}
    objective = build_objective(settings, feature_dim=tensors["head.weight"].shape[1])
    assert isinstance(objective, ActionUnits)
    if objective.regions is not None:
        raise ValueError(
            f"the run's action-unit head reads region tokens of {objective.regions}, at landmarks "
            "that a bundle has not: release with --head none, or --head DIR of an evaluation"
        )
    source = f"trained with the backbone for {run.step} steps"
    if objective.task == "detection":
        source += (
            f", where frames count as positive from intensity {objective.positive_from} on"
        )
    # what the label columns were, whatever the objective calls them
    units = run.settings.data.action_units
    weight, bias = tensors.pop("head.weight"), tensors.pop("head.bias")
    if objective.gru is None:
        return Head.of(objective.task, units, source, weight, bias)
    frames = len(objective.offsets)
    stride = objective.offsets[1] if frames > 1 else 1
    context = Context(frames, stride, objective.cells)
    source += f", on windows of {frames} frames that lie {stride} apart"
    return Head.of(
        objective.task, units, source, weight, bias, context=context, over_time=tensors
    )


def _probe(folder: Path, weights_sha256: str) -> Head:
    """The mean over folds of an evaluation's linear probes; with one fold the very probe that
    was scored.
    """
    if not (folder / "report.json").is_file() or not (folder / PROBE_NAME).is_file():
        raise ValueError(
            f"{folder} holds no linear probe: give --out of `python -m tools.evaluate`, "
            "run with protocol=linear"
        )
    with as_ours(folder):
        return _probe_of(folder, weights_sha256)


def _probe_of(folder: Path, weights_sha256: str) -> Head:
    report = read_json(folder / "report.json")
    evaluated = report.get("backbone", {}).get("weights_sha256")
    if evaluated != weights_sha256:
        raise ValueError(
            f"the probe in {folder} was fitted on other weights than this release (SHA-256 "
            f"{evaluated}): evaluate again"
        )
    probe = read_tensors(folder / PROBE_NAME)
    folds = len(probe["bias"])
    identities, name = len(report["subjects"]), report["corpus"]["name"]
    source = f"linear probe on the labels of {name} ({identities} identities), " + (
        "fitted without those it was tested on"
        if folds == 1
        else f"mean of the probes of {folds} folds"
    )
    task: Task = "intensity" if report["task"] == "intensity" else "detection"
    # F D K -> K D
    return Head.of(
        task,
        tuple(report["action_units"]),
        source,
        probe["weight"].mean(0).T,
        probe["bias"].mean(0),
    )

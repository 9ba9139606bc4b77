"""Heads that somebody has fitted already: by the run itself, or by an evaluation of its backbone.

    RUN/checkpoints/step-…/objectives.safetensors     the objective `action_units`, trained with the backbone ──┐
    EVALUATION/report.json, probe.safetensors         linear probes on frozen features, one for each fold ──────┴──▶ Head
"""

from pathlib import Path

from ausl_dist.evaluate.report import PROBE_NAME
from ausl_dist.files import read_json
from ausl_dist.model import build_objective
from ausl_dist.objectives.action_units import ActionUnits
from ausl_dist.release.head import Head, Task, read_tensors
from ausl_dist.release.run import Run

OBJECTIVE = f"{ActionUnits.__module__}.{ActionUnits.__qualname__}"


def find_head(run: Run, choice: Path | str, weights_sha256: str) -> Head | None:
    """The head to release: "run" is the one that the run trained, if it did; "none" is none; else the folder of an evaluation.

    Raises ValueError, with what to do, where a head is there but cannot be released.
    """
    if choice == "none":
        return None
    return _trained(run) if choice == "run" else _probe(Path(choice), weights_sha256)


def _trained(run: Run) -> Head | None:
    names = [name for name, settings in run.settings.objectives.items() if settings.get("_target_") == OBJECTIVE]
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(f"the run trains {len(names)} heads ({', '.join(names)}): release it with --head none")
    if run.weights == "teacher":
        raise ValueError("the run's action-unit head was trained on the student's features: release the teacher with --head none")
    settings = run.settings.objectives[names[0]]
    if settings.get("context", "none") != "none":
        raise ValueError(
            f"the head of {names[0]} looks at the frames before (context={settings['context']}), which a released head cannot: "
            "release with --head none, or give the folder of an evaluation with --head DIR"
        )
    tensors = run.read_objectives()
    wanted = [f"{names[0]}.head.{part}" for part in ("weight", "bias")]
    if not set(wanted) <= tensors.keys():
        raise ValueError(f"{run.checkpoint} holds no head of {names[0]}: release with --head none, or --head DIR of an evaluation")
    weight, bias = (tensors[name] for name in wanted)
    objective = build_objective(settings, feature_dim=weight.shape[1])
    assert isinstance(objective, ActionUnits)
    source = f"trained with the backbone for {run.step} steps"
    if objective.task == "detection":
        source += f", where frames count as positive from intensity {objective.positive_from} on"
    units = run.settings.data.action_units  # what the label columns were, whatever the objective calls them
    return Head.of(objective.task, units, source, weight, bias)


def _probe(folder: Path, weights_sha256: str) -> Head:
    """The mean over folds of an evaluation's linear probes; with one fold the very probe that was scored."""
    if not (folder / "report.json").is_file() or not (folder / PROBE_NAME).is_file():
        raise ValueError(f"{folder} holds no linear probe: give --out of `tools/evaluate.py`, run with protocol=linear")
    report = read_json(folder / "report.json")
    evaluated = report.get("backbone", {}).get("weights_sha256")
    if evaluated != weights_sha256:
        raise ValueError(f"the probe in {folder} was fitted on other weights than this release (SHA-256 {evaluated}): evaluate again")
    probe = read_tensors(folder / PROBE_NAME)
    folds = len(probe["bias"])
    identities, name = len(report["subjects"]), report["corpus"]["name"]
    source = f"linear probe on the labels of {name} ({identities} identities), " + (
        "fitted without those it was tested on" if folds == 1 else f"mean of the probes of {folds} folds"
    )
    task: Task = "intensity" if report["task"] == "intensity" else "detection"
    return Head.of(task, tuple(report["action_units"]), source, probe["weight"].mean(0).T, probe["bias"].mean(0))  # F D K -> K D

"""The model card in the hub's format: what the backbone is, how to use it, what it was made
from, what it is worth, what it is not for.

Scores stand beside the constant baseline and the same backbone with random weights, from the
reports of `python -m tools.evaluate`; a bundle without an evaluation says so instead of staying
silent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ausl_dist.model.backbones import OWN_NETWORKS
from ausl_dist.model.video_network import VIDEO_NETWORKS
from ausl_dist.release.action_units import columns_of
from ausl_dist.release.head import HeadSpec
from ausl_dist.release.licences import Source
from ausl_dist.release.picture import PICTURE_NAME, TrainingPicture
from ausl_dist.release.preprocessing import Preprocessing
from ausl_dist.release.tolerance import ToleranceRow


@dataclass(frozen=True)
class CardFacts:
    """What the card is written from."""

    name: str
    licence: str
    architecture: str
    readout: str  # kind: mean, grid, regions, learnt
    dim: int
    parameters: int
    step: int
    chosen: str  # why this checkpoint
    objectives: Mapping[str, float]  # name and weight
    supervised: bool  # one of them learned from action-unit labels
    corpora: Mapping[str, Mapping[str, Any]]  # statements by name
    sources: Sequence[Source]  # of the weights, with their licences
    preprocessing: Preprocessing
    carries_models: bool  # the detection models are in the bundle
    head: HeadSpec | None
    reports: Mapping[str, str]  # Markdown tables of evaluations, by name
    measured_on: str  # which faces tolerance and errors were measured on
    tolerance: Sequence[ToleranceRow]
    export_errors: Mapping[str, float]  # relative error of features, by kind of export
    version: str
    trained: str  # one line of when, on what and from which code
    picture: TrainingPicture | None  # of the training, beside the card


def model_card(facts: CardFacts) -> str:
    """The README.md of a bundle."""
    parts = (
        _front_matter,
        _summary,
        _picture,
        _use,
        _action_units,
        _preprocessing,
        _tolerance,
        _data,
        _scores,
        _limits,
        _record,
    )
    return "\n".join(part(facts) for part in parts)


def _front_matter(facts: CardFacts) -> str:
    lines = ["---", f"license: {facts.licence}"]
    if facts.licence == "other":
        lines += ["license_name: bound-by-the-data", "license_link: README.md"]
    library = "ausl_dist" if facts.architecture in OWN_NETWORKS else "timm"
    lines += [f"library_name: {library}", "pipeline_tag: image-feature-extraction", "tags:"]
    lines += [
        f"- {tag}"
        for tag in (
            library,
            "face",
            "facial-action-units",
            "self-supervised",
            "image-feature-extraction",
        )
    ]
    return "\n".join([*lines, "---", ""])


def _summary(facts: CardFacts) -> str:
    tasks = (
        ", ".join(f"{name} (weight {weight:g})" for name, weight in facts.objectives.items())
        or "not recorded"
    )
    labels = "partly from labels" if facts.supervised else "without labels"
    return f"""# {facts.name}

A facial backbone pretrained {labels} on face video, meant for facial action units: `{
        facts.architecture
    }`, {facts.parameters / 1e6:.1f} M parameters, features of width {
        facts.dim
    } (readout of the map: {facts.readout}), {facts.step} optimizer steps ({
        facts.chosen
    }). Tasks: {tasks}.
"""


def _picture(facts: CardFacts) -> str:
    if facts.picture is None:
        return ""
    return f"![{facts.picture.caption}]({PICTURE_NAME})\n\n{facts.picture.caption}.\n"


def _use(facts: CardFacts) -> str:
    return f"""## Use

From a video to features, with faces found and cropped exactly as in training:

```python
import ausl_dist

backbone = ausl_dist.load_backbone("path/to/this/folder")
faces = backbone.preprocess("video.mp4")
features = backbone.features(faces)  # .frames [T, {facts.dim}], .clip [{facts.dim}], .seconds [T]
```

{_models(facts)}

{_weights_alone(facts)}{_exports(facts)}"""


def _models(facts: CardFacts) -> str:
    if facts.carries_models:
        return "The models that find faces are in `models/`, with their licences: nothing is fetched."
    return (
        "The models that find faces are not in this bundle: fetch them once with "
        "`python -m tools.fetch_models` of ausl_dist."
    )


_READ_BESIDE = {
    "grid": "\nFeatures are means of cells of `net.forward_features`, not its own pooling.\n",
    "regions": "\nFeatures are read of `net.forward_features` at the places of action units.\n",
    "learnt": "\nFeatures are made from `net.forward_features` by the weights of `readout.safetensors`: "
    "narrowed, flattened, projected, batch norm, ReLU.\n",
}


def _weights_alone(facts: CardFacts) -> str:
    if facts.architecture in OWN_NETWORKS:
        blocks = (
            " Pretraining showed it blocks of frames; here it sees each frame alone, as a block of one."
            if facts.architecture in VIDEO_NETWORKS
            else ""
        )
        return (
            f"`{facts.architecture}` is not one of timm's networks: its weights are used with "
            f"ausl_dist, or as ONNX.{blocks}\n"
        )
    size = facts.preprocessing.image_size
    return f"""The weights alone, in plain timm (input: RGB, {size} x {size}, normalised as `config.json` says; **cropping as below, or
scores fall**):

```python
import timm

net = timm.create_model("local-dir:path/to/this/folder", pretrained=True).eval()
```
{_READ_BESIDE.get(facts.readout, "")}"""


def _action_units(facts: CardFacts) -> str:
    if facts.head is None:
        return "## Action units\n\nThis bundle has no head: features only.\n"
    head = facts.head
    meaning = (
        "probability that the unit is present"
        if head.unit == "probability"
        else "intensity from 0 (absent) to 5"
    )
    columns = columns_of(head.action_units, head.unit)
    rows = [
        f"| {number} | {name} | `{column}` |"
        for number, name, column in zip(head.action_units, head.names, columns, strict=True)
    ]
    table = "\n".join(
        ["| AU | name | column of `python -m tools.extract` |", "|---|---|---|", *rows]
    )
    context = (
        "" if head.context is None else "It looks at the frames before, of each person apart. "
    )
    return f"""## Action units

`head.safetensors` maps features to action units: {meaning}. It is a {head.task} head, {head.source}. {context}In Python,
`features.action_units` has `.values` [T, {len(columns)}], `.numbers`, `.names` and `.unit`.

{table}
"""


def _exports(facts: CardFacts) -> str:
    if not facts.export_errors:
        return ""
    rows = [f"| {kind} | {error:.0e} |" for kind, error in facts.export_errors.items()]
    heading = f"For other engines, `exports/`, measured on {facts.measured_on}:"
    return "\n".join(
        [
            "",
            heading,
            "",
            "| export | largest relative error of features |",
            "|---|---|",
            *rows,
            "",
            *([_onnx(facts)] if "onnx" in facts.export_errors else []),
        ]
    )


def _onnx(facts: CardFacts) -> str:
    """What a program that has only ONNX Runtime must know."""
    p = facts.preprocessing
    return f"""`images`: RGB from 0 to 1, less {p.pixel_mean}, divided by {p.pixel_std}; cropped as below, or scores fall.

```python
import onnxruntime

net = onnxruntime.InferenceSession("path/to/this/folder/exports/model.onnx")
(features,) = net.run(None, {{"images": images}})  # N 3 {p.image_size} {p.image_size} float32 in, N {facts.dim} out
```
"""


def _preprocessing(facts: CardFacts) -> str:
    p = facts.preprocessing
    return f"""## Preprocessing

`preprocessing.json`, SHA-256 `{p.digest}`: faces found by {
        p.detector
    }; a similarity transform takes {len(p.anchors)} of 68 landmarks
(eye corners and nose base, iBUG numbers {", ".join(map(str, p.anchors))}) to the template `{
        p.alignment
    }` in a {p.crop_size} x
{p.crop_size} crop; its central {round(p.view * p.crop_size)} pixels resized to {
        p.image_size
    }; {f"{p.fps:g} frames per second" if p.fps else "any frame rate"}.
"""


def _tolerance(facts: CardFacts) -> str:
    # a recurrent head is not measured on single frames
    unit = None if facts.head is None or facts.head.context else facts.head.unit
    lines = [
        "## Tolerance of misplaced crops",
        "",
        f"Measured on {facts.measured_on}. A feature change of 1 is the mean distance between the "
        "features of two of these faces in place"
        + (
            f"; a score change is the mean absolute change of the action units' {unit}."
            if unit
            else "."
        ),
        "",
        "| the face lies | feature change |" + " score change |" * bool(unit),
        "|---|---|" + "---|" * bool(unit),
    ]
    scores = [
        "" if row.score_change is None else f" {row.score_change:g} |"
        for row in facts.tolerance
    ]
    rows = [
        f"| {row.face} | {row.feature_change:g} |{score}"
        for row, score in zip(facts.tolerance, scores, strict=True)
    ]
    return "\n".join([*lines, *rows, ""])


def _data(facts: CardFacts) -> str:
    labels = (
        "Labels of action units were used, by the tasks above."
        if facts.supervised
        else "No labels were used in pretraining."
    )
    lines = [
        "## Training data",
        "",
        f"{labels} The licences of the data may bind the weights too.",
        "",
    ]
    for name, corpus in facts.corpora.items():
        hours = float(corpus.get("seconds") or 0) / 3600
        lines.append(
            f"- {name}: {hours:.2f} hours, {corpus.get('clips', '?')} clips, "
            f"{corpus.get('identities', '?')} identities (tracks where "
            f"identities are unknown), {corpus.get('sources', '?')} sources"
        )
    lines += ["", "| what went into the weights | licence |", "|---|---|"]
    lines += [
        f"| {_cell(s.what)} | {_cell(s.licence or 'not recorded')} |" for s in facts.sources
    ]
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    """What stands in one cell of a table, whatever a corpus' maker wrote."""
    return " ".join(text.replace("|", "/").split())


def _scores(facts: CardFacts) -> str:
    if not facts.reports:
        return (
            "## Scores\n\nNo evaluation was run before the release, "
            "so nothing is known of this backbone's worth.\n"
        )
    parts = [
        "## Scores",
        "",
        "Read every row against the constant, which looks at no image, and against random weights.",
        "",
    ]
    for name, table in facts.reports.items():
        parts += [f"### {name}", "", table.rstrip("\n"), ""]
    return "\n".join(parts)


def misplaced_scores(report: Mapping[str, Any]) -> str:
    """What the alignment meter of an evaluation found, as a Markdown table; nothing where it
    was not asked for.
    """
    if not report.get("alignment"):
        return ""
    rows = [
        f"| {line['kind']} {line['amount']:g} | {line['score']:.3f} |"
        for line in report["alignment"]
    ]
    heading = (
        "| crop (shift: share of its side; scale: of the face; turn: "
        f"degrees) | {report['main_score']} |"
    )
    return "\n".join(["", heading, "|---|---|", *rows, ""])


def _limits(_: CardFacts) -> str:
    return """## Intended use and limits

For research on facial action units and facial movement. Features describe appearance and movement, not emotions, intentions or character;
they are not made for identifying people, and decisions about people must not rest on them. Expect lower worth on faces, cameras, poses
and light that the training data lacks. Crops that are not placed by the template change every feature, by as much as stands above.
"""


def _record(facts: CardFacts) -> str:
    trained = f"{facts.trained}\n\n" if facts.trained else ""
    return f"""## Provenance

{trained}Made by ausl_dist {facts.version}. `record.json` holds the resolved config, code and package versions, hosts and every resume;
`corpus.json` the statement of the data; `SHA256SUMS` the checksum of every file, checked at each load.
"""

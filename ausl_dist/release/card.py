"""The model card in the hub's format: what the backbone is, how to use it, what it was made from, what it is worth, what it is not for.

Scores stand beside the constant baseline and the same backbone with random weights, from the reports of `tools/evaluate.py`; a bundle
without an evaluation says so instead of staying silent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ausl_dist.release.action_units import columns_of
from ausl_dist.release.head import HeadSpec
from ausl_dist.release.preprocessing import Preprocessing


@dataclass(frozen=True)
class CardFacts:
    """What the card is written from."""

    name: str
    licence: str
    architecture: str
    dim: int
    parameters: int
    step: int
    objectives: Mapping[str, float]  # name and weight
    corpora: Mapping[str, Mapping[str, Any]]  # statements by name
    preprocessing: Preprocessing
    head: HeadSpec | None
    reports: Mapping[str, str]  # Markdown tables of evaluations, by name
    export_errors: Mapping[str, float]  # relative error of features, by kind of export
    version: str


def model_card(facts: CardFacts) -> str:
    """The README.md of a bundle."""
    parts = (_front_matter, _summary, _use, _action_units, _preprocessing, _data, _scores, _limits, _record)
    return "\n".join(part(facts) for part in parts)


def _front_matter(facts: CardFacts) -> str:
    lines = ["---", f"license: {facts.licence}"]
    if facts.licence == "other":
        lines += ["license_name: bound-by-the-data", "license_link: README.md"]
    lines += ["library_name: timm", "pipeline_tag: image-feature-extraction", "tags:"]
    lines += [f"- {tag}" for tag in ("timm", "face", "facial-action-units", "self-supervised", "image-feature-extraction")]
    return "\n".join([*lines, "---", ""])


def _summary(facts: CardFacts) -> str:
    tasks = ", ".join(f"{name} (weight {weight:g})" for name, weight in facts.objectives.items()) or "not recorded"
    return f"""# {facts.name}

A facial backbone pretrained without labels on face video, meant for facial action units: `{facts.architecture}`, {facts.parameters /
1e6:.1f} M parameters, features of width {facts.dim}, {facts.step} optimizer steps. Self-supervised tasks: {tasks}.
"""


def _use(facts: CardFacts) -> str:
    size = facts.preprocessing.image_size
    return f"""## Use

From a video to features, with faces found and cropped exactly as in training:

```python
import ausl_dist

backbone = ausl_dist.load_backbone("path/to/this/folder")
faces = backbone.preprocess("video.mp4")
features = backbone.features(faces)  # .frames [T, {facts.dim}], .clip [{facts.dim}], .seconds [T]
```

The weights alone, in plain timm (input: RGB, {size} x {size}, normalised as `config.json` says; **cropping as below, or scores fall**):

```python
import timm

net = timm.create_model("local-dir:path/to/this/folder", pretrained=True).eval()
```
{_exports(facts)}"""


def _action_units(facts: CardFacts) -> str:
    if facts.head is None:
        return "## Action units\n\nThis bundle has no head: features only.\n"
    head = facts.head
    meaning = "probability that the unit is present" if head.unit == "probability" else "intensity from 0 (absent) to 5"
    columns = columns_of(head.action_units, head.unit)
    rows = [f"| {number} | {name} | `{column}` |" for number, name, column in zip(head.action_units, head.names, columns, strict=True)]
    table = "\n".join(["| AU | name | column of `tools/extract.py` |", "|---|---|---|", *rows])
    return f"""## Action units

`head.safetensors` maps features to action units: {meaning}. It is a {head.task} head, {head.source}. In Python,
`features.action_units` has `.values` [T, {len(columns)}], `.numbers`, `.names` and `.unit`.

{table}
"""


def _exports(facts: CardFacts) -> str:
    if not facts.export_errors:
        return ""
    rows = [f"| {kind} | {error:.0e} |" for kind, error in facts.export_errors.items()]
    return "\n".join(["", "For other engines, `exports/`:", "", "| export | largest relative error of features |", "|---|---|", *rows, ""])


def _preprocessing(facts: CardFacts) -> str:
    p = facts.preprocessing
    return f"""## Preprocessing

`preprocessing.json`, SHA-256 `{p.digest}`: faces found by {p.detector}; a similarity transform takes {len(p.anchors)} of 68 landmarks
(eye corners and nose base, iBUG numbers {", ".join(map(str, p.anchors))}) to the template `{p.alignment}` in a {p.crop_size} x
{p.crop_size} crop; its central {round(p.view * p.crop_size)} pixels resized to {p.image_size}; {f"{p.fps:g} frames per second" if p.fps
else "any frame rate"}.
"""


def _data(facts: CardFacts) -> str:
    lines = ["## Training data", "", "No labels were used in pretraining. The licences of the data may bind the weights too.", ""]
    for name, corpus in facts.corpora.items():
        hours = float(corpus.get("seconds") or 0) / 3600
        licences = [f"{licence} ({clips} clips)" for licence, clips in (corpus.get("licences") or {}).items()]
        lines.append(
            f"- {name}: {hours:.2f} hours, {corpus.get('clips', '?')} clips, {corpus.get('identities', '?')} identities (tracks where "
            f"identities are unknown), {corpus.get('sources', '?')} sources; licences: {', '.join(licences) or 'not recorded'}"
        )
    return "\n".join([*lines, ""])


def _scores(facts: CardFacts) -> str:
    if not facts.reports:
        return "## Scores\n\nNo evaluation was run before the release, so nothing is known of this backbone's worth.\n"
    parts = ["## Scores", "", "Read every row against the constant, which looks at no image, and against random weights.", ""]
    for name, table in facts.reports.items():
        parts += [f"### {name}", "", table.rstrip("\n"), ""]
    return "\n".join(parts)


def _limits(_: CardFacts) -> str:
    return """## Intended use and limits

For research on facial action units and facial movement. Features describe appearance and movement, not emotions, intentions or character;
they are not made for identifying people, and decisions about people must not rest on them. Expect lower worth on faces, cameras, poses
and light that the training data lacks. A crop shifted or scaled against the template lowers every score.
"""


def _record(facts: CardFacts) -> str:
    return f"""## Provenance

Made by ausl_dist {facts.version}. `record.json` holds the resolved config, code and package versions, hosts and every resume;
`corpus.json` the statement of the data; `SHA256SUMS` the checksum of every file, checked at each load.
"""

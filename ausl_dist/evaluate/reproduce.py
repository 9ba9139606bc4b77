"""Are the scores on the card true? Runs the evaluations recorded in a bundle again and
compares.

    bundle/evaluation/NAME/report.json ──its settings──▶ the same evaluation
        ──▶ scores recorded and found, row by row

The data must be where it was, or be named; another corpus is refused before anything is
computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ausl_dist.evaluate.compare import CompareSettings, Comparison
from ausl_dist.evaluate.protocol import ProtocolSettings, run_protocol
from ausl_dist.evaluate.released import compare_bundle, open_corpus
from ausl_dist.evaluate.report.tables import to_json
from ausl_dist.files import as_ours, read_json
from ausl_dist.settings import from_mapping

TOLERANCE = 2e-3  # of a score: what other processors and thread counts may change


@dataclass(frozen=True)
class Check:
    """One row of one evaluation."""

    evaluation: str
    row: str
    score: str
    recorded: float
    found: float

    @property
    def holds(self) -> bool:
        return abs(self.recorded - self.found) <= TOLERANCE


def reproduce(bundle: Path, *, data: dict[str, str] | None = None) -> Iterator[Check]:
    """Run every recorded evaluation again. `data` says where corpora or data sets lie now, by
    evaluation name.

    Raises ValueError when the bundle records no evaluation, or the data is not the recorded
    one.
    """
    reports = sorted((bundle / "evaluation").glob("*/report.json"))
    if not reports:
        raise ValueError(f"{bundle} records no evaluation: there is nothing to reproduce")
    unknown = set(data or {}) - {path.parent.name for path in reports}
    if unknown:
        raise ValueError(
            f"the bundle records no evaluation {sorted(unknown)}; "
            f"it records {[path.parent.name for path in reports]}"
        )
    for path in reports:
        report, name = read_json(path), path.parent.name
        with as_ours(path):
            score, recorded = _recorded(report)
        again = to_json(_run_again(bundle, report, (data or {}).get(name)))
        # may hold rows that are younger than the report
        found = {row["name"]: row["pooled"][score]["mean"] for row in again["rows"]}
        for row, value in recorded.items():
            if row not in found:
                raise ValueError(f"{path} records {row!r}, which this version does not measure")
            yield Check(name, row, score, value, float(found[row]))


def _recorded(report: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """The score that a report is about, and its value by row; raises where what is needed to
    run it again is not there.
    """
    settings, corpus = dict(report["settings"]), dict(report["corpus"])
    is_protocol = report["kind"] == "protocol"
    missing = {"name", "digest"} - corpus.keys()
    missing |= (
        set() if is_protocol else ({"url"} - corpus.keys()) | ({"stride"} - settings.keys())
    )
    if missing:
        raise KeyError(*sorted(missing))
    score = report["main_score"]
    rows = {row["name"]: float(row["pooled"][score]["mean"]) for row in report["rows"]}
    return score, rows


def _run_again(bundle: Path, report: dict[str, Any], place: str | None) -> Comparison:
    settings = dict(report["settings"])
    if report["kind"] == "protocol":
        moved = {
            "bundle": str(bundle),
            "label_rates": [],
            "alignment_meter": False,
            **({"root": place} if place else {}),
        }
        comparison, context = run_protocol(from_mapping(ProtocolSettings, settings | moved))
        _check_digest(report, context["corpus"]["digest"])
        return comparison
    url = place or report["corpus"]["url"]
    _check_digest(report, open_corpus(url).digest)
    stride = settings.pop("stride")
    comparison, _ = compare_bundle(
        bundle, url, from_mapping(CompareSettings, settings), stride=stride
    )
    return comparison


def _check_digest(report: dict[str, Any], digest: str) -> None:
    recorded = report["corpus"]
    if digest != recorded["digest"]:
        raise ValueError(
            f"the data is not the recorded {recorded['name']}: its digest is {digest}, "
            f"not {recorded['digest']}"
        )

"""The report of a run as one self-contained HTML page: of a run in progress, a finished one, or a
dead one.

    metrics.jsonl, events/, ranks/, ledger.jsonl, config.yaml, record.json ──▶ build_report(run_folder) ──▶ HTML

What is missing from the folder is left out; what ails the run stands at the top, in words
(diagnosis.py).
"""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from ausl_dist.files import read_json
from ausl_dist.observe.diagnosis import SILENT_SECONDS, corrupt_examples, findings, place_of
from ausl_dist.observe.events import in_words, is_trouble
from ausl_dist.observe.heartbeat import Heartbeat, read_heartbeats
from ausl_dist.observe.history import Line, read_events, read_metrics
from ausl_dist.observe.wording import counted, duration, size
from ausl_dist.pages.charts import Mark, Series, areas, lines
from ausl_dist.pages.page import page, section, table, tiles_row

MAX_LINES = 1500  # steps drawn: more than a screen has columns
MAX_EVENTS = 200
EXAMPLES = 5
MAX_TEXT_BYTES = 1 << 20


def build_report(run_folder: Path | str, now: float | None = None) -> str:
    """The page; raises ValueError where the folder is no run's."""
    folder = Path(run_folder)
    now = time.time() if now is None else now
    if not (folder / "config.yaml").is_file() and not (folder / "metrics.jsonl").is_file():
        raise ValueError(
            f"{folder} is not a run folder: it has neither config.yaml nor metrics.jsonl"
        )
    steps, events, beats = (
        read_metrics(folder, MAX_LINES),
        read_events(folder),
        read_heartbeats(folder),
    )
    name = beats[0].run if beats else folder.name
    sections = [
        f'<h1>{escape(name)}</h1><p class="state">{escape(_standing(steps, beats, now))}</p>',
        _findings(folder, now),
        _tiles(steps, beats),
        section("Learning", _learning(steps, events)),
        section("Speed and stalls", _speed(steps, events)),
        section("What happened", _happened(events)),
        section("Ranks", _ranks(beats, now)),
        section("Clips that could not be used", _corrupt(folder, beats)),
        section("Configuration", _text(folder / "config.yaml")),
        section("Record", _record(folder)),
    ]
    written = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    return page(name, "".join(sections), f"Written {written} from {folder}")


def _standing(steps: list[Line], beats: list[Heartbeat], now: float) -> str:
    if not beats:
        return (
            f"{counted(steps[-1]['step'] + 1, 'step')} done; its ranks have left no word of "
            "themselves"
            if steps
            else "not started yet"
        )
    done, total = max(beat.steps_done for beat in beats), beats[0].total_steps
    progress = f"step {done:,} of {total:,}"
    if any(beat.standing == "failed" for beat in beats):
        return f"failed at {progress}"
    if all(beat.standing == "ended" for beat in beats):
        return f"finished, {progress}" if done >= total else f"stopped at {progress}"
    if all(
        beat.silent_seconds(now) > SILENT_SECONDS for beat in beats if beat.standing == "running"
    ):
        return (
            f"dead since {progress}: "
            f"no rank has spoken for {duration(now - max(beat.time for beat in beats))}"
        )
    left = (total - done) * max(beat.step_seconds for beat in beats)
    return f"running, {progress}, about {duration(left)} left"


def _findings(folder: Path, now: float) -> str:
    found = findings(folder, now)
    if not found:
        return '<p class="finding fine">Nothing is wrong.</p>'
    return "".join(
        f'<p class="finding"><b>{escape(one.kind)}</b>: {escape(one.text)}</p>' for one in found
    )


def _tiles(steps: list[Line], beats: list[Heartbeat]) -> str:
    if not steps:
        return ""
    first, last = steps[0], steps[-1]
    wall = last["time"] - last["first_start"]
    median = sorted(line["seconds"].get("total", 0.0) for line in steps)[len(steps) // 2]
    tiles = [
        ("loss, first to last", f"{_number(first['loss'])} → {_number(last['loss'])}"),
        ("clips a second", f"{last['clips'] / median:.1f}" if median > 0 else "–"),
        ("median step", f"{median:.3f} s"),
        ("waiting for data", f"{_share(steps, 'data'):.1%}"),
        ("saving", f"{_share(steps, 'save'):.1%}"),
        ("goodput", f"{last['useful_seconds'] / wall:.0%}" if wall > 0 else "–"),
        ("attempts", str(1 + max(line["attempt"] for line in steps))),
        ("ranks", str(beats[0].world_size) if beats else "–"),
        ("read from storage by rank 0", size(last["counts"].get("bytes", 0))),
    ]
    return tiles_row(tiles)


def _share(steps: list[Line], phase: str) -> float:
    total = sum(line["seconds"].get("total", 0.0) for line in steps)
    return sum(line["seconds"].get(phase, 0.0) for line in steps) / total if total > 0 else 0.0


def _learning(steps: list[Line], events: list[Line]) -> str:
    if not steps:
        return ""
    xs = [line["step"] for line in steps]
    marks = _marks(events, lambda event: event.get("step"))

    def curve(label: str, *series: Series) -> str:
        return lines(series, label=label, x_label="step", marks=marks)

    def of(name: str) -> Series:
        return Series("", xs, [line.get(name) for line in steps])

    names = sorted({name for line in steps for name in line["logs"]})
    whats = sorted(
        {name.partition("/")[2] for name in names}, key=lambda what: (what != "loss", what)
    )

    def by_objective(what: str) -> str:
        return curve(
            f"{what or 'other'}, by objective",
            *(_logged(steps, name) for name in names if name.partition("/")[2] == what),
        )

    charts = [curve("Loss, all objectives weighted", of("loss")), *map(by_objective, whats)]
    charts += [
        curve("Gradient norm", of("gradient_norm")),
        curve("Learning rate", of("learning_rate")),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _logged(steps: list[Line], name: str) -> Series:
    """A log's curve over the steps that have it: some are taken only now and then."""
    having = [line for line in steps if name in line["logs"]]
    return Series(
        name.partition("/")[0],
        [line["step"] for line in having],
        [line["logs"][name] for line in having],
    )


def _speed(steps: list[Line], events: list[Line]) -> str:
    if len(steps) < 2:
        return ""
    start = steps[-1]["first_start"]
    wall = steps[-1]["time"] - start
    unit, unit_name = next(
        ((size, name) for size, name in ((3600.0, "hours"), (60.0, "minutes")) if wall >= 3 * size),
        (1.0, "seconds"),
    )
    xs = [(line["time"] - start) / unit for line in steps]
    x_label = f"{unit_name} since the first start"
    marks = _marks(
        events, lambda event: (event["time"] - start) / unit if "time" in event else None
    )
    phases = [
        phase
        for phase in dict.fromkeys(phase for line in steps for phase in line["seconds"])
        if phase != "total"
    ]
    shares = [
        Series(phase, xs, _smooth([_of_total(line, phase) for line in steps])) for phase in phases
    ]
    rate = [
        line["clips"] / line["seconds"]["total"] if line["seconds"].get("total") else 0.0
        for line in steps
    ]
    stalls = _stalls(steps, xs)
    charts = [
        areas(shares, label="Where a step's time goes", x_label=x_label, say=_percent, marks=marks),
        areas(
            stalls,
            label="Stall: share of the time each stage kept the next waiting",
            x_label=x_label,
            say=_percent,
            marks=marks,
        ),
        lines(
            [Series("", xs, _smooth(rate))], label="Clips a second", x_label=x_label, marks=marks
        ),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _of_total(line: Line, phase: str) -> float:
    total = line["seconds"].get("total", 0.0)
    return float(line["seconds"].get(phase, 0.0) / total) if total > 0 else 0.0


def _stalls(steps: list[Line], xs: list[float]) -> list[Series]:
    """Growth of each stage's blocked seconds over the time between two drawn steps; a restart
    begins anew from nought.
    """
    stages = list(dict.fromkeys(stage for line in steps for stage in line["blocked"]))
    series = []
    for stage in stages:
        ys = [0.0]
        for before, line in itertools.pairwise(steps):
            passed = line["time"] - before["time"]
            fresh = line["attempt"] != before["attempt"]
            blocked = line["blocked"].get(stage, 0.0) - (
                0.0 if fresh else before["blocked"].get(stage, 0.0)
            )
            ys.append(max(blocked, 0.0) / passed if passed > 0 and not fresh else 0.0)
        series.append(Series(stage, xs, _smooth(ys)))
    return series


def _smooth(values: Sequence[float], width: int = 15) -> list[float]:
    """Mean over neighbours, so that single steps do not hide the course."""
    half = min(width, max(len(values) // 20, 1)) // 2
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _marks(events: list[Line], place: Callable[[Line], float | None]) -> list[Mark]:
    """Restarts and troubles as marks; `place` says where on the axis."""
    marks = []
    for event in events[-MAX_EVENTS:]:
        kind = str(event.get("kind"))
        restart = kind == "started" and event.get("attempt") and not event.get("rank")
        x = place(event)
        if x is not None and (restart or is_trouble(kind)):
            marks.append(Mark(x, f"{_who(event)} {in_words(kind, event)}", bad=not restart))
    return marks


def _happened(events: list[Line]) -> str:
    rows = []
    for event in events[-MAX_EVENTS:]:
        kind = str(event.get("kind"))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(event.get("time", 0))))
        mark = ' class="trouble"' if is_trouble(kind) else ""
        rows.append(
            f"<tr{mark}><td>{when}</td><td>{escape(_who(event))}</td><td>{escape(in_words(kind, event))}</td></tr>"
        )
    left_out = (
        f"<p>The first {len(events) - MAX_EVENTS:,} are left out.</p>"
        if len(events) > MAX_EVENTS
        else ""
    )
    return f"{left_out}<table>{''.join(rows)}</table>" if rows else ""


def _who(event: Line) -> str:
    return f"rank {event['rank']} ({event.get('node', '?')})" if "rank" in event else "launcher"


def _ranks(beats: list[Heartbeat], now: float) -> str:
    titles = (
        "rank",
        "host",
        "state",
        "steps",
        "a step",
        "of its own",
        "waiting for data",
        "last heard of",
        "in",
    )
    rows = [
        (
            str(beat.rank),
            beat.node,
            beat.standing,
            f"{beat.steps_done:,}",
            f"{beat.step_seconds:.3f} s",
            f"{beat.own_seconds:.3f} s",
            f"{beat.data_share:.1%}",
            f"{duration(max(now - beat.time, 0))} ago",
            f"{beat.phase}" if beat.standing == "running" else "",
        )
        for beat in beats
    ]
    return table(titles, rows)


def _corrupt(folder: Path, beats: list[Heartbeat]) -> str:
    counts: dict[str, int] = {}
    for beat in beats:
        for reason, count in (beat.counts.get("corrupt") or {}).items():
            counts[reason] = counts.get(reason, 0) + int(count)
    examples = corrupt_examples(folder, EXAMPLES)
    rows = []
    for reason in sorted({*counts, *examples}):
        for number, example in enumerate(examples.get(reason, [{}])):
            count = f"{counts.get(reason, 0):,}" if number == 0 else ""
            rows.append(
                (
                    reason if number == 0 else "",
                    count,
                    place_of(example) if example else "",
                    str(example.get("detail", "")),
                )
            )
    return table(("reason", "clips in this attempt", "for instance", "why"), rows)


def _record(folder: Path) -> str:
    path = folder / "record.json"
    return (
        f"<pre>{escape(json.dumps(read_json(path), indent=1, ensure_ascii=False))}</pre>"
        if path.is_file()
        else ""
    )


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return f"<pre>{escape(file.read(MAX_TEXT_BYTES))}</pre>"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"

"""The charts of a run's report: what matters on the first screen, every other number below it.

    lines of metrics.jsonl, online.jsonl, events
        ──▶ first_screen(…)     loss, online probe, collapse, speed, where time goes
                                                 └─▶ every_number(…)     small multiples, by objective

A number that never moves is said in words, and nothing is drawn twice.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

from ausl_dist.observe.events import in_words, is_trouble
from ausl_dist.observe.history import Line
from ausl_dist.pages.charts import Mark, Series, areas, is_flat, lines, panels, say_number
from ausl_dist.pages.page import charts_grid, note
from ausl_dist.run_folder import FIRST_ATTEMPT

MAX_EVENTS = 200
MAX_CURVES = 8  # over one another; of more, the smallest are left to the small multiples
RANK, STD, COLLAPSED, LOSS = "effective_rank", "feature_std", "collapsed", "loss"
# the prefix of the probe's scores among the logs; they are read from their own file
ONLINE = "online"
RUN = "run"  # the owner of logs that are of no objective
STEP = "step"

Scores = Mapping[int, Mapping[str, float]]  # of the online evaluation, by the checkpoint's step


def first_screen(steps: list[Line], scores: Scores, events: list[Line]) -> str:
    """Is it learning, does it collapse, how fast is it, what does it wait for."""
    if not steps:
        return ""
    marks = _marks(events, lambda event: event.get("step"))
    loss = Series("", _steps(steps), [line.get(LOSS) for line in steps])
    charts = [
        lines([loss], label=_loss_title(steps), x_label=STEP, marks=marks),
        _online(scores, marks),
        _collapse(steps, marks),
        *_speed(steps, events),
    ]
    return charts_grid(charts)


def every_number(steps: list[Line]) -> str:
    """Small multiples of every logged number that the first screen does not show."""
    if not steps:
        return ""
    groups: dict[str, list[tuple[str, list[Series]]]] = {"optimizer": _of_the_optimizer(steps)}
    for owner, whats in _names(steps).items():
        if owner != ONLINE:
            groups[owner] = _families(steps, owner, whats)
    drawn = [panels(parts, label=owner) for owner, parts in groups.items()]
    flat = [
        f"{owner} {name} {say_number(series[0].points[0][1])}"
        for owner, parts in groups.items()
        for name, series in parts
        if is_flat(series) and series[0].points
    ]
    said = f"The same throughout: {', '.join(flat)}." if flat else ""
    return "".join(drawn) + note(said)


def _loss_title(steps: list[Line]) -> str:
    several = len([owner for owner, whats in _names(steps).items() if LOSS in whats]) > 1
    return "Loss, all objectives weighted" if several else "Loss"


def _online(scores: Scores, marks: Sequence[Mark]) -> str:
    """The scores of the checkpoints by a probe on labels, while the run goes on."""
    names = dict.fromkeys(name for line in scores.values() for name in line)
    shown = [name for name in names if name.startswith(("probe_", "knn_"))]
    series = []
    for name in shown[:MAX_CURVES]:
        points = sorted((step, line[name]) for step, line in scores.items() if name in line)
        series.append(Series(name, [x for x, _ in points], [y for _, y in points]))
    return lines(series, label="Online probe", x_label="step of the checkpoint", marks=marks)


def _collapse(steps: list[Line], marks: Sequence[Mark]) -> str:
    owners = [owner for owner, whats in _names(steps).items() if RANK in whats]
    series = [_logged(steps, owner, RANK, named=True) for owner in owners[:MAX_CURVES]]
    title = "Collapse: effective rank of features, 1 is collapsed"
    return lines(series, label=title, x_label=STEP, marks=marks)


def _speed(steps: list[Line], events: list[Line]) -> list[str]:
    """Clips a second, where a step's time goes, what each stage waits for."""
    if len(steps) < 2:
        return []
    start, end = steps[-1]["first_start"], steps[-1]["time"]
    unit, unit_name = _unit_of(end - start)
    xs = [(line["time"] - start) / unit for line in steps]
    marks = _marks(
        events, lambda event: (event["time"] - start) / unit if "time" in event else None
    )
    x_label = f"{unit_name} since the first start"
    rate = [_rate(line) for line in steps]
    seconds = dict.fromkeys(phase for line in steps for phase in line["seconds"])
    shares = [
        Series(phase, xs, _smooth([_of_total(line, phase) for line in steps]))
        for phase in seconds
        if phase != "total"
    ]
    stall = "Stall: share of time that stages kept the next waiting"
    speed = [Series("", xs, _smooth(rate))]
    return [
        lines(speed, label="Clips a second", x_label=x_label, marks=marks),
        areas(
            shares, label="Where a step's time goes", x_label=x_label, say=_percent, marks=marks
        ),
        areas(_stalls(steps, xs), label=stall, x_label=x_label, say=_percent, marks=marks),
    ]


def _unit_of(seconds: float) -> tuple[float, str]:
    """The unit of time in which a run's length is a handy number."""
    units = ((3600.0, "hours"), (60.0, "minutes"))
    return next((unit for unit in units if seconds >= 3 * unit[0]), (1.0, "seconds"))


def _rate(line: Line) -> float:
    total = line["seconds"].get("total", 0.0)
    return float(line["clips"] / total) if total else 0.0


def _of_total(line: Line, phase: str) -> float:
    total = line["seconds"].get("total", 0.0)
    return float(line["seconds"].get(phase, 0.0) / total) if total > 0 else 0.0


def _stalls(steps: list[Line], xs: list[float]) -> list[Series]:
    """Growth of each stage's blocked seconds over the time between two drawn steps; a restart
    begins anew from nought.
    """
    series = []
    for stage in dict.fromkeys(stage for line in steps for stage in line["blocked"]):
        pairs = itertools.pairwise(steps)
        ys = [0.0, *(_growth(before, line, stage) for before, line in pairs)]
        if any(ys):
            series.append(Series(stage, xs, _smooth(ys)))
    return series


def _growth(before: Line, line: Line, stage: str) -> float:
    passed = line["time"] - before["time"]
    if passed <= 0 or line["attempt"] != before["attempt"]:
        return 0.0
    grown = line["blocked"].get(stage, 0.0) - before["blocked"].get(stage, 0.0)
    return max(float(grown), 0.0) / passed


def _of_the_optimizer(steps: list[Line]) -> list[tuple[str, list[Series]]]:
    names = {"gradient norm": "gradient_norm", "learning rate": "learning_rate"}
    return [
        (said, [Series(said, _steps(steps), [line.get(name) for line in steps])])
        for said, name in names.items()
    ]


def _families(
    steps: list[Line], owner: str, whats: list[str]
) -> list[tuple[str, list[Series]]]:
    """The numbers of an objective; names that differ in a number alone share one panel."""
    shown = {RANK, COLLAPSED} | ({LOSS} if _loss_title(steps) == "Loss" else set())
    families: dict[str, list[str]] = {}
    for what in whats:
        if what not in shown:
            families.setdefault(re.sub(r"\d+", "#", what), []).append(what)
    groups = []
    for family, members in families.items():
        name = members[0] if len(members) == 1 else family.replace("#", f"({len(members)})")
        groups.append((name.replace("_", " "), [_logged(steps, owner, one) for one in members]))
    return groups


def _names(steps: list[Line]) -> dict[str, list[str]]:
    """What is logged, by whose it is; a log without an owner belongs to the run."""
    found: dict[str, list[str]] = {}
    for name in sorted({name for line in steps for name in line["logs"]}):
        owner, _, what = name.rpartition("/")
        found.setdefault(owner or RUN, []).append(what)
    return found


def _logged(steps: list[Line], owner: str, what: str, *, named: bool = False) -> Series:
    """A log's curve over the steps that have it, as some are taken only now and then; its
    colour is its owner's.
    """
    log = what if owner == RUN else f"{owner}/{what}"
    having = [line for line in steps if log in line["logs"]]
    ys = [line["logs"][log] for line in having]
    return Series(owner if named else "", _steps(having), ys, list(_names(steps)).index(owner))


def _steps(steps: list[Line]) -> list[float]:
    return [line["step"] for line in steps]


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
        again = event.get("attempt", FIRST_ATTEMPT) > FIRST_ATTEMPT
        restart = kind == "started" and again and not event.get("rank")
        x = place(event)
        if x is not None and (restart or is_trouble(kind)):
            marks.append(Mark(x, f"{who(event)} {in_words(kind, event)}", bad=not restart))
    return marks


def who(event: Line) -> str:
    """Whose event it is."""
    return f"rank {event['rank']} ({event.get('node', '?')})" if "rank" in event else "launcher"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"

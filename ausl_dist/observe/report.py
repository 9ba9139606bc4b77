"""The report of a run as one self-contained HTML page: of a run in progress, a finished one, or
a dead one.

    metrics.jsonl, online.jsonl, events/, ranks/, ledger.jsonl, config.yaml, record.json
        ──▶ build_report(run_folder) ──▶ HTML

The first screen answers the questions that one opens it with: what ails the run, in words
(diagnosis.py), is it learning, is it collapsing, is it fast, what does it wait for (curves.py).
What is missing from the folder is left out.
"""

import json
import time
from html import escape
from pathlib import Path

from ausl_dist.files import read_json
from ausl_dist.observe.curves import MAX_EVENTS, every_number, first_screen, who
from ausl_dist.observe.diagnosis import corrupt_examples, findings, place_of
from ausl_dist.observe.events import in_words, is_trouble
from ausl_dist.observe.heartbeat import Heartbeat, read_heartbeats
from ausl_dist.observe.history import Line, read_events, read_metrics
from ausl_dist.observe.thresholds import is_silent
from ausl_dist.observe.wording import counted, duration, size
from ausl_dist.pages.page import folded, note, page, section, table, tiles_row, verbatim
from ausl_dist.run_folder import CONFIG_FILE, METRICS_FILE, RECORD_FILE, read_scores

MAX_LINES = 1500  # steps drawn: more than a screen has columns
EXAMPLES = 5
MAX_TEXT_BYTES = 1 << 20


def build_report(run_folder: Path | str, now: float | None = None) -> str:
    """The page; raises ValueError where the folder is no run's."""
    folder = Path(run_folder)
    now = time.time() if now is None else now
    if not (folder / CONFIG_FILE).is_file() and not (folder / METRICS_FILE).is_file():
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
        first_screen(steps, read_scores(folder), events),
        section("What happened", _happened(events)),
        section("Ranks", _ranks(beats, now)),
        section("Clips that could not be used", _corrupt(folder, beats)),
        section("Every number", every_number(steps)),
        section("Made from", _made_from(folder)),
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
    if all(is_silent(beat, now) for beat in beats if beat.standing == "running"):
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
        ("attempts", str(max(line["attempt"] for line in steps))),
        ("ranks", str(beats[0].world_size) if beats else "–"),
        ("read from storage by rank 0", size(last["counts"].get("bytes", 0))),
    ]
    return tiles_row(tiles)


def _share(steps: list[Line], phase: str) -> float:
    total = sum(line["seconds"].get("total", 0.0) for line in steps)
    return sum(line["seconds"].get(phase, 0.0) for line in steps) / total if total > 0 else 0.0


def _happened(events: list[Line]) -> str:
    shown = events[-MAX_EVENTS:]
    rows, troubles = [], []
    for number, event in enumerate(shown):
        kind = str(event.get("kind"))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(event.get("time", 0))))
        rows.append((when, who(event), in_words(kind, event)))
        if is_trouble(kind):
            troubles.append(number)
    left_out = len(events) - len(shown)
    said = f"The first {left_out:,} are left out." if left_out else ""
    return note(said) + table((), rows, marked=troubles)


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


def _made_from(folder: Path) -> str:
    record = folder / RECORD_FILE
    said = (
        json.dumps(read_json(record), indent=1, ensure_ascii=False) if record.is_file() else ""
    )
    config = folded("Configuration", verbatim(_text(folder / CONFIG_FILE)))
    return config + folded("Record", verbatim(said))


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(MAX_TEXT_BYTES)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"

"""A corpus as one HTML page that needs nothing else: its account, what was kept, what was
rejected and why, and how clips are spread.

    URL ──▶ corpus.json, ledger.jsonl, a sample of chunks ──▶ page

The sample is every n-th chunk, so that a page of a terabyte costs as much as one of a gigabyte.
"""

import html
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.books import REASONS, Books
from ausl_dist.corpus.quality import titled
from ausl_dist.corpus.unfinished import refuse_unfinished
from ausl_dist.faces.landmarks import NUM_LANDMARKS
from ausl_dist.files import as_ours, json_object
from ausl_dist.observe.wording import counted
from ausl_dist.pages import page as pages
from ausl_dist.pages.charts import histogram
from ausl_dist.pages.jpeg import jpeg_base64
from ausl_dist.pages.page import note, picture, pictures_row, section, table, verbatim
from ausl_dist.shards import clip, storage
from ausl_dist.shards.clip import ClipMeta, array_from_bytes
from ausl_dist.shards.index import Chunk, Index
from ausl_dist.shards.publish import LEDGER_NAME, STATEMENT_FORMAT, STATEMENT_NAME
from ausl_dist.shards.reader import StoredClip, clips_in
from ausl_dist.shards.retry import Retry

MAX_CHUNKS = 64
MAX_KEPT = 48
MAX_ACCOUNT_BYTES = 1 << 30
PICTURE_SIDE = 128  # pixels
# Clips may come from elsewhere: a header may not ask a decoder for any memory it likes.
MEMORY_GUARD = {"max_pixels": str(4096**2)}
MAX_PLACES = 12
MAX_CAPTION = 28  # characters: a clip's three frames are about as wide


def read_account(url: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """corpus.json and the lines of ledger.jsonl; FileNotFoundError where there is no corpus, and
    ValueError where one is being built.
    """
    refuse_unfinished(url)
    address, ledger = storage.join(url, STATEMENT_NAME), storage.join(url, LEDGER_NAME)
    statement = storage.read_bytes(address, MAX_ACCOUNT_BYTES)
    lines = (
        storage.read_bytes(ledger, MAX_ACCOUNT_BYTES).splitlines()
        if storage.exists(ledger)
        else []
    )
    return json_object(statement, address), [json_object(line, ledger) for line in lines]


def account_text(statement: dict[str, Any]) -> str:
    """The account as lines for people; of a corpus made elsewhere, whatever its statement says."""
    if statement.get("format") != STATEMENT_FORMAT:
        return "\n".join(f"{name}: {value}" for name, value in statement.items())
    with as_ours(STATEMENT_NAME):
        return "\n".join(_lines(statement))


def _lines(statement: dict[str, Any]) -> list[str]:
    lines = [
        f"{statement['name']}: {statement['clips']} clips, {statement['seconds']:.1f} s at "
        f"{statement['fps']} frames/s, "
        f"{statement['sources']} sources, {statement['identities']} identities",
        f"detector {statement['detector']}, alignment {statement['alignment']}, "
        f"{statement['builder']}",
        *(
            f"licence  {clips:>8} clips  {licence}"
            for licence, clips in statement["licences"].items()
        ),
    ]
    if statement["labelled_clips"]:
        lines.append(
            f"labels   {statement['labelled_clips']:>8} clips  action units "
            f"{statement['action_units']}"
        )
    if statement["books"]:
        lines += ["", Books.from_dict(statement["books"]).table()]
    for past in statement["removed"]:
        lines.append(
            f"removed on {past['date']}: {past['removed_clips']} clips "
            f"({past['why'] or 'no reason given'})"
        )
    return lines


def sample_clips(url: str, max_chunks: int = MAX_CHUNKS) -> Iterator[StoredClip]:
    """The clips of chunks spread evenly over the corpus."""
    index = Index.load(url)
    places = np.linspace(0, len(index.chunks) - 1, max_chunks).round().astype(int)
    for number in np.unique(places).tolist():
        data = _bytes_of(url, index.chunk(number))
        yield from clips_in(io.BytesIO(data))


def _bytes_of(url: str, chunk: Chunk) -> bytes:
    filesystem, path = storage.connect(storage.join(url, chunk.shard))
    start, end = chunk.offset, chunk.offset + chunk.bytes
    return Retry().call(
        lambda seconds: storage.read_range(filesystem, path, start, end, seconds)
    )


def page(url: str) -> str:
    """The whole page as HTML."""
    statement, ledger = read_account(url)
    name = str(statement.get("name", url))
    clips = list(sample_clips(url))
    chosen = [clips[number] for number in _evenly(len(clips), MAX_KEPT)]
    said = f"{len(chosen)} clips: first, middle and last frame, landmarks drawn."
    kept = note(said) + pictures_row(_kept(stored) for stored in chosen)
    parts = [
        f"<h1>{html.escape(name)}</h1>",
        verbatim(account_text(statement)),
        section("Kept", kept),
        section(
            f"Spread of {len(clips)} clips", _histograms([stored.meta for stored in clips])
        ),
    ]
    with as_ours(LEDGER_NAME):
        parts.append(section("Rejected", "".join(_rejected(ledger))))
    return pages.page(name, "".join(parts))


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly spread."""
    places = np.linspace(0, count - 1, most) if count else np.zeros(0)
    return [int(place) for place in np.unique(places.round())]


def _kept(stored: StoredClip) -> str:
    meta = stored.meta
    frames = _frames(stored.members[clip.VIDEO_SUFFIX], [0, meta.frames // 2, meta.frames - 1])
    points = stored.members.get(clip.LANDMARKS_SUFFIX)
    if points is not None:
        landmarks = array_from_bytes(points, np.float16, (meta.frames, NUM_LANDMARKS, 2))
        for number, frame in frames.items():
            _draw(frame, landmarks[number].astype(np.float32))
    size = (PICTURE_SIDE, PICTURE_SIDE)
    row = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames.values()]
    whole = f"{meta.source} @ {meta.start_second:.2f} s, {meta.identity}, {meta.frames} frames"
    caption = f"{_short(meta.source)} @ {meta.start_second:.1f} s"
    return picture(jpeg_base64(np.hstack(row)), caption, whole)


def _short(source: str) -> str:
    """The end of a source's path, where names differ."""
    name = source.rsplit("/", 1)[-1]
    return name if len(name) <= MAX_CAPTION else "…" + name[1 - MAX_CAPTION :]


def _frames(video: bytes, numbers: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    with av.open(io.BytesIO(video), "r", options=MEMORY_GUARD) as container:
        container.streams.video[0].codec_context.options = MEMORY_GUARD
        frames = enumerate(container.decode(video=0))
        return {
            number: np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for number, frame in frames
            if number in numbers
        }


def _draw(picture: NDArray[np.uint8], points: NDArray[np.float32]) -> None:
    for x, y in points:
        cv2.circle(picture, (round(float(x)), round(float(y))), 2, (0, 255, 0), -1)


def _rejected(ledger: list[dict[str, Any]]) -> Iterator[str]:
    by_reason: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in ledger:
        by_reason[line["reason"]].append(line)
    for reason, lines in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        seconds = sum(line.get("seconds", 0.0) for line in lines)
        yield f"<h3>{html.escape(reason)}: {counted(len(lines), 'piece')}, {seconds:.1f} s</h3>"
        yield note(REASONS.get(reason, ""))
        yield pictures_row(_rejected_picture(line) for line in lines if "picture" in line)
        yield table(
            (), [(line["source"], line["message"]) for line in lines if "message" in line]
        )
        yield note(
            _places([line for line in lines if not line.keys() & {"picture", "message"}])
        )


def _places(lines: list[dict[str, Any]]) -> str:
    """Where pieces lie of which there is nothing to show."""
    said = [_place(line) for line in lines[:MAX_PLACES]]
    left = len(lines) - len(said)
    return "; ".join(said) + (f"; and {left:,} more" if left else "")


def _place(line: dict[str, Any]) -> str:
    start = line.get("start_second")
    at = "" if start is None else f" @ {start:.1f} s"
    return f"{_short(line['source'])}{at}"


def _rejected_picture(line: dict[str, Any]) -> str:
    measures = ", ".join(f"{name} {value}" for name, value in line.get("detail", {}).items())
    place = f"{line['source']} @ {line['start_second']} s, {line['frames']} frames"
    return picture(line["picture"], measures or _short(line["source"]), f"{place} {measures}")


def _histograms(metas: list[ClipMeta]) -> str:
    values: dict[str, list[float]] = defaultdict(list)
    for meta in metas:
        values["seconds"].append(meta.frames / meta.fps)
        for name, value in meta.quality.items():
            values[name].append(value)
    drawn = [histogram(numbers, label=titled(name)) for name, numbers in values.items()]
    return f'<div class="panels">{"".join(drawn)}</div>' if drawn else ""

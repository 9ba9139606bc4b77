"""A corpus as one HTML page that needs nothing else: its account, what was kept, what was rejected
and why, and how clips are spread.

    URL ──▶ corpus.json, ledger.jsonl, a sample of chunks ──▶ page

The sample is every n-th chunk, so that a page of a terabyte costs as much as one of a gigabyte.
"""

import base64
import html
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.books import REASONS, Books
from ausl_dist.corpus.publish import LEDGER_NAME, STATEMENT_FORMAT, STATEMENT_NAME
from ausl_dist.faces.landmarks import NUM_LANDMARKS
from ausl_dist.shards import clip, storage
from ausl_dist.shards.clip import ClipMeta, array_from_bytes
from ausl_dist.shards.index import Index
from ausl_dist.shards.retry import Retry
from ausl_dist.shards.tar import read_members
from ausl_dist.shards.writer import StoredClip, group_clips

MAX_CHUNKS = 64
MAX_KEPT = 48
MAX_ACCOUNT_BYTES = 1 << 30
PICTURE_SIDE = 128  # pixels
BINS = 24
# Clips may come from elsewhere: a header may not ask a decoder for any memory it likes.
MEMORY_GUARD = {"max_pixels": str(4096**2)}
STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1200px;color:#222}
h2{margin-top:2em;border-bottom:1px solid #ccc}pre{background:#f6f6f6;padding:1em;overflow-x:auto}
figure{display:inline-block;margin:4px;vertical-align:top}figcaption{font-size:10px;color:#666;max-width:200px;overflow-wrap:anywhere}
svg{background:#f6f6f6;margin:6px}
"""


def read_account(url: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """corpus.json and the lines of ledger.jsonl; FileNotFoundError where there is no corpus."""
    statement = json.loads(storage.read_bytes(storage.join(url, STATEMENT_NAME), MAX_ACCOUNT_BYTES))
    ledger = storage.join(url, LEDGER_NAME)
    lines = (
        storage.read_bytes(ledger, MAX_ACCOUNT_BYTES).splitlines() if storage.exists(ledger) else []
    )
    return statement, [json.loads(line) for line in lines]


def account_text(statement: dict[str, Any]) -> str:
    """The account as lines for people; of a corpus made elsewhere, whatever its statement says."""
    if statement.get("format") != STATEMENT_FORMAT:
        return "\n".join(f"{name}: {value}" for name, value in statement.items())
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
    return "\n".join(lines)


def sample_clips(url: str, max_chunks: int = MAX_CHUNKS) -> Iterator[StoredClip]:
    """The clips of chunks spread evenly over the corpus."""
    index = Index.load(url)
    for number in np.unique(
        np.linspace(0, len(index.chunks) - 1, max_chunks).round().astype(int)
    ).tolist():
        chunk = index.chunk(number)
        filesystem, path = storage.connect(storage.join(url, chunk.shard))
        data = Retry().call(
            lambda seconds, chunk=chunk, filesystem=filesystem, path=path: storage.read_range(  # type: ignore[misc]
                filesystem, path, chunk.offset, chunk.offset + chunk.bytes, seconds
            )
        )
        yield from group_clips(read_members(io.BytesIO(data)))


def page(url: str) -> str:
    """The whole page as HTML."""
    statement, ledger = read_account(url)
    name = html.escape(str(statement.get("name", url)))
    clips = list(sample_clips(url))
    chosen = (
        [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, MAX_KEPT).round().astype(int))]
        if clips
        else []
    )
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{name}</title><style>{STYLE}</style>",
        f"<h1>{name}</h1><pre>{html.escape(account_text(statement))}</pre>",
        f"<h2>Kept</h2><p>{len(chosen)} clips: first, middle and last frame, landmarks drawn.</p>",
        *(_kept(stored) for stored in chosen),
        "<h2>Spread</h2>",
        f"<p>Of {len(clips)} clips.</p>",
        *_histograms([stored.meta for stored in clips]),
        "<h2>Rejected</h2>",
        *_rejected(ledger),
    ]
    return "\n".join(parts)


def _kept(stored: StoredClip) -> str:
    meta = stored.meta
    pictures = _frames(stored.members[clip.VIDEO_SUFFIX], [0, meta.frames // 2, meta.frames - 1])
    points = stored.members.get(clip.LANDMARKS_SUFFIX)
    if points is not None:
        landmarks = array_from_bytes(points, np.float16, (meta.frames, NUM_LANDMARKS, 2))
        for number, picture in pictures.items():
            _draw(picture, landmarks[number].astype(np.float32))
    row = [
        cv2.resize(picture, (PICTURE_SIDE, PICTURE_SIDE), interpolation=cv2.INTER_AREA)
        for picture in pictures.values()
    ]
    caption = f"{meta.source} @ {meta.start_second:.2f} s, {meta.identity}, {meta.frames} frames"
    return _figure(_jpeg(np.hstack(row)), caption)


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
        yield (
            f"<h3>{html.escape(reason)}: {len(lines)} pieces, "
            f"{seconds:.1f} s</h3><p>{html.escape(REASONS.get(reason, ''))}</p>"
        )
        for line in lines:
            if "picture" in line:
                measures = ", ".join(
                    f"{name} {value}" for name, value in line.get("detail", {}).items()
                )
                yield _figure(
                    line["picture"],
                    f"{line['source']} @ {line['start_second']} s, "
                    f"{line['frames']} frames {measures}",
                )
        yield "<ul>"
        yield from (
            f"<li>{html.escape(line['source'])}: {html.escape(line['message'])}"
            for line in lines
            if "message" in line
        )
        yield "</ul>"


def _histograms(metas: list[ClipMeta]) -> Iterator[str]:
    values: dict[str, list[float]] = defaultdict(list)
    for meta in metas:
        values["seconds"].append(meta.frames / meta.fps)
        for name, value in meta.quality.items():
            values[name].append(value)
    for name, numbers in values.items():
        yield _histogram(name, numbers)


def _histogram(name: str, numbers: list[float]) -> str:
    counts, edges = np.histogram(numbers, BINS)
    tallest = max(int(counts.max()), 1)
    bars = "".join(
        f"<rect x={10 * i + 10} y={90 - 80 * int(count) / tallest:.1f} width=9 "
        f"height={80 * int(count) / tallest:.1f} fill=steelblue />"
        for i, count in enumerate(counts)
    )
    labels = (
        f"<text x=10 y=106 font-size=11>{edges[0]:.4g}</text><text x=250 y=106 "
        f"font-size=11 text-anchor=end>{edges[-1]:.4g}</text>"
    )
    return (
        "<svg width=260 height=112><text x=10 y=12 "
        f"font-size=12>{html.escape(name)}</text>{bars}{labels}</svg>"
    )


def _figure(jpeg_base64: str, caption: str) -> str:
    return (
        "<figure><img "
        f'src="data:image/jpeg;base64,{html.escape(jpeg_base64)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def _jpeg(picture: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return base64.b64encode(data.tobytes()).decode()

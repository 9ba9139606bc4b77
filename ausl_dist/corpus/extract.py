"""One source video becomes clips and an account of every frame: the builder's inner work, a
pure function of file and settings.

    FrameReader ──▶ FaceTracker ──▶ TrackAligner ──▶ TrackCutter ──▶ measure, limits ─┐
     25 frames/s     who is where     steady crops     candidates      or rejected      │
                                                  clip ◀── encode, verify ◀─────────────┘
                                                            decodes again

Everything streams: memory does not grow with the length of the video.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ausl_dist.corpus.books import KEPT, Books, Timeline, TrackPiece
from ausl_dist.corpus.cut import Candidate, TrackCutter
from ausl_dist.corpus.flow import motion
from ausl_dist.corpus.labels import Labels
from ausl_dist.corpus.quality import first_problem, measure, signature
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source
from ausl_dist.faces.align import align_tracks
from ausl_dist.faces.decode import Unreadable
from ausl_dist.faces.detect import Detector, Landmarker
from ausl_dist.faces.landmarks import template_id
from ausl_dist.faces.models import models_id
from ausl_dist.faces.track import FaceTracker
from ausl_dist.faces.video import Frame, FrameReader
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.encode import VideoMismatch, encode_video, verify_video
from ausl_dist.shards.writer import clip_blocks, key_of


@dataclass
class SourceResult:
    """What became of one source.

    Its clips were handed to the sink, in the order of the pieces that name them.
    """

    source: str
    fps: float
    frames: int = 0  # at the constant rate, holes and missing ones included
    source_frames: int = 0
    source_end: int = 0  # the number of the last picture, plus one
    faces: int = 0  # face frames tracked
    reason: str = ""  # what is wrong with the whole file
    message: str = ""
    pieces: list[TrackPiece] = field(default_factory=list)

    def books(self) -> Books:
        """The account of this source, checked."""
        books = Books(
            self.fps,
            sources=1,
            source_frames=self.source_frames,
            frames=self.frames,
            faces=self.faces,
        )
        books.clips = sum(piece.outcome == KEPT for piece in self.pieces)
        books.sources_kept = int(books.clips > 0)
        books.rejected = self._timeline().count()
        books.kept = books.rejected.pop(KEPT, 0)
        for track in {piece.track for piece in self.pieces} - {None}:
            counts = Timeline(
                [p for p in self.pieces if p.track == track], self.frames, "no_face"
            ).count()
            del counts["no_face"]  # frames that this track is not in
            books.faces_rejected.update(counts)
        books.faces_kept = books.faces_rejected.pop(KEPT, 0)
        if self.reason:
            books.source_problems[self.reason] += 1
        books.check()
        return books

    def ledger(self) -> Iterator[dict[str, Any]]:
        """One line for every rejected piece: of the whole file, of a track, and of the time in
        which nobody was seen.
        """
        if self.reason:
            yield {"source": self.source, "reason": self.reason, "message": self.message}
        for piece in self.pieces:
            if piece.outcome != KEPT and piece.track is not None:
                more = {
                    name: value
                    for name in ("track", "key", "detail", "picture")
                    if (value := getattr(piece, name)) not in ("", {})
                }
                yield self._line(piece.first, piece.end, piece.outcome) | more
        claimed = {piece.outcome for piece in self.pieces if piece.track is not None} | {KEPT}
        for first, end, outcome in self._timeline().runs():
            if outcome not in claimed:
                yield self._line(first, end, outcome)

    def _line(self, first: int, end: int, reason: str) -> dict[str, Any]:
        start, seconds = round(first / self.fps, 3), round((end - first) / self.fps, 3)
        return {
            "source": self.source,
            "reason": reason,
            "start_second": start,
            "seconds": seconds,
            "frames": end - first,
        }

    def _timeline(self) -> Timeline:
        return Timeline(self.pieces, self.frames, "no_face")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SourceResult":
        return cls(**{**values, "pieces": [TrackPiece(**piece) for piece in values["pieces"]]})


class Extractor:
    """Holds the models of one process; `extract` may be called for any number of sources."""

    def __init__(self, settings: CorpusSettings, models: Path | str | None = None) -> None:
        self.settings = settings
        faces = settings.faces
        self._detector = Detector(
            models, side=faces.detect_side, min_score=faces.min_detector_score
        )
        self._landmarker = Landmarker(models)

    def extract(
        self,
        source: Source,
        path: Path,
        sink: Callable[[bytes], object],
        *,
        labels: Labels | None = None,
        progress: Callable[[int], None] = lambda frames: None,
    ) -> SourceResult:
        """Work through one source at a local `path`; `sink` gets each kept clip as tar members
        (shards.clip_blocks).

        Never raises for what is wrong with the source: that is in the result. `progress` hears
        of frames as they pass.
        """
        result = SourceResult(source.name, self.settings.read.fps)
        try:
            reader = FrameReader(path, self.settings.read)
        except Unreadable as problem:
            return reject_whole(result, problem)
        tracker = FaceTracker(
            self._detector, self._landmarker, self.settings.faces, self.settings.read.fps
        )
        cutters: dict[int, TrackCutter] = {}
        try:
            for item in align_tracks(_counted(reader, progress), tracker):
                if isinstance(item, int):  # a track has ended
                    ready = cutters.pop(item).finish()
                else:
                    result.faces += 1
                    cutter = cutters.setdefault(
                        item.track,
                        TrackCutter(self.settings, one_person=source.identity is not None),
                    )
                    ready = cutter.push(item)
                for piece in ready:
                    result.pieces.append(
                        self._judge(source, piece, reader, labels, sink)
                        if isinstance(piece, Candidate)
                        else piece
                    )
        except Unreadable as problem:
            return reject_whole(result, problem)
        _close_accounts(result, reader)
        return result

    def _judge(
        self,
        source: Source,
        candidate: Candidate,
        reader: FrameReader,
        labels: Labels | None,
        sink: Callable[[bytes], object],
    ) -> TrackPiece:
        values = measure(candidate.faces, reader.source_fps)
        problem = first_problem(values, self.settings.quality)
        if problem is not None:
            return candidate.rejected(problem, values)
        frames = np.stack([face.crop for face in candidate.faces])  # T H W C
        video = encode_video(frames, self.settings.read.fps, self.settings.clips.codec)
        try:
            verify_video(video, frames)
        except VideoMismatch:
            return candidate.rejected("encoding", values)
        track = candidate.faces[0].track
        key = f"{key_of(source.name)}-p{track}-{candidate.first:06d}"
        units = labels.rows([face.source_frame for face in candidate.faces]) if labels else None
        meta = ClipMeta(
            source=source.name,
            identity=source.identity or f"{source.name}#{track}",
            licence=source.licence,
            fps=self.settings.read.fps,
            start_second=round(candidate.first / self.settings.read.fps, 6),
            frames=len(frames),
            detector=models_id(),
            alignment=template_id(),
            quality=values,
            action_units=labels.units if labels else (),
            about=dict(source.about),
        )
        landmarks = np.stack([face.landmarks for face in candidate.faces]).astype(np.float16)
        flow = motion(frames, self.settings.flow) if self.settings.flow.gap_frames else None
        blocks = clip_blocks(key, meta, video, landmarks, units, flow)
        sink(blocks)
        footage = signature(candidate.faces).hex()
        return TrackPiece(
            candidate.first,
            candidate.end,
            KEPT,
            track,
            key=key,
            clip_bytes=len(blocks),
            signature=footage,
        )


def _counted(reader: FrameReader, progress: Callable[[int], None]) -> Iterator[Frame]:
    for frame in reader:
        progress(1)
        yield frame


def reject_whole(result: SourceResult, problem: Unreadable) -> SourceResult:
    """The account of a source that gives nothing."""
    result.reason, result.message = problem.reason, str(problem)
    result.frames = round(problem.seconds * result.fps)
    if result.frames:
        result.pieces = [TrackPiece(0, result.frames, problem.reason)]
    return result


def _close_accounts(result: SourceResult, reader: FrameReader) -> None:
    result.source_frames, result.source_end = reader.source_frames, reader.source_end
    missing = reader.missing_frames
    result.frames = reader.frames + missing
    result.pieces += [TrackPiece(first, end, "hole") for first, end in reader.holes]
    if reader.damaged:
        result.reason, result.message = (
            "damaged",
            f"{reader.damaged} packets or images could not be decoded",
        )
    if missing:
        result.pieces.append(TrackPiece(reader.frames, result.frames, "truncated"))
        result.reason, result.message = (
            "truncated",
            f"{missing / result.fps:.1f} s are missing at the end",
        )
    if reader.problem is not None:
        result.reason, result.message = reader.problem.reason, str(reader.problem)

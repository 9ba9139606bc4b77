"""The account of a build adds up to the frame, and says so when it does not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.corpus.books import KEPT, REASONS, Books, Timeline, TrackPiece
from ausl_dist.corpus.extract import SourceResult

OUTCOMES = [KEPT, "no_face", "too_short", "blurred", "hole", "duplicate"]


@st.composite
def results(draw: st.DrawFn) -> SourceResult:
    frames = draw(st.integers(1, 80))
    pieces, faces = [], 0
    for track in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, frames - 1))
        while position < frames:
            end = draw(st.integers(position + 1, frames))
            pieces.append(
                TrackPiece(
                    position,
                    end,
                    draw(st.sampled_from([KEPT, "too_short", "blurred", "duplicate"])),
                    track,
                    key="k",
                )
            )
            faces += end - position
            position = end if draw(st.booleans()) else frames
    return SourceResult(
        "a.mp4", 25.0, frames=frames, source_frames=frames, faces=faces, pieces=pieces
    )


@settings(deadline=None)
@given(result=results())
def test_both_accounts_balance_whatever_happened(result: SourceResult) -> None:
    books = result.books()
    assert books.frames == books.kept + books.rejected.total() == result.frames
    assert books.faces == books.faces_kept + books.faces_rejected.total() == result.faces
    kept = {
        frame
        for piece in result.pieces
        if piece.outcome == KEPT
        for frame in range(piece.first, piece.end)
    }
    assert books.kept == len(kept)
    assert Books.from_dict(json.loads(json.dumps(books.to_dict()))) == books
    assert SourceResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


@settings(deadline=None)
@given(result=results())
def test_the_ledger_names_every_frame_that_the_books_reject(result: SourceResult) -> None:
    lines = list(result.ledger())
    faces = sum(line["frames"] for line in lines if "track" in line)
    assert faces == result.books().faces_rejected.total()
    for reason, frames in result.books().rejected.items():
        assert sum(line["frames"] for line in lines if line["reason"] == reason) >= frames


def test_a_lost_frame_is_noticed() -> None:
    result = SourceResult(
        "a.mp4",
        25.0,
        frames=100,
        faces=100,
        pieces=[TrackPiece(0, 50, KEPT, 0), TrackPiece(51, 100, "too_short", 0)],
    )
    with pytest.raises(AssertionError, match="faces: 100 in, 50 kept"):
        result.books()
    with pytest.raises(AssertionError, match="outside"):
        SourceResult("a.mp4", 25.0, frames=10, pieces=[TrackPiece(0, 11, KEPT, 0)]).books()


def test_of_two_people_the_one_who_came_further_speaks_for_the_frame() -> None:
    pieces = [
        TrackPiece(0, 10, "too_short", 0),
        TrackPiece(5, 15, KEPT, 1),
        TrackPiece(12, 20, "blurred", 2),
    ]
    assert Timeline(pieces, 25, "no_face").runs() == [
        (0, 5, "too_short"),
        (5, 15, KEPT),
        (15, 20, "blurred"),
        (20, 25, "no_face"),
    ]


def test_a_refused_file_of_known_length_is_in_the_books() -> None:
    result = SourceResult(
        "a.mp4",
        25.0,
        frames=250,
        reason="too_long",
        message="m",
        pieces=[TrackPiece(0, 250, "too_long")],
    )
    books = result.books()
    assert (books.frames, books.rejected["too_long"], books.source_problems["too_long"]) == (
        250,
        250,
        1,
    )
    assert "10.00 s" in books.table()


def test_the_table_names_every_reason_that_occurs() -> None:
    books = Books(25.0, frames=sum(range(len(REASONS))))
    books.rejected.update({reason: number for number, reason in enumerate(REASONS)})
    books.check()
    assert all(reason in books.table() for reason in list(REASONS)[1:])

"""No frame of a track is lost or doubled when it is cut into clips and rejected pieces."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.corpus.books import TrackPiece
from ausl_dist.corpus.cut import Candidate, TrackCutter
from ausl_dist.corpus.settings import ClipSettings, CorpusSettings
from tests.support.faces_drawn import aligned

SHORT = CorpusSettings(clips=ClipSettings(seconds=0.4, min_seconds=0.16))  # 10 and 4 frames
OVERLAPPING = CorpusSettings(
    clips=ClipSettings(seconds=0.4, min_seconds=0.16, overlap_seconds=0.12)
)


def cut(
    kinds: list[str], corpus: CorpusSettings = SHORT, *, one_person: bool = False
) -> list[Candidate | TrackPiece]:
    cutter = TrackCutter(corpus, one_person=one_person)
    made = []
    for frame, kind in enumerate(kinds):
        face = {
            "good": {},
            "small": {"eye_pixels": 8.0},
            "outside": {"outside": 0.5},
            "second": {"rank": 1},
        }[kind]
        made += cutter.push(aligned(frame, **face))  # type: ignore[arg-type]
    return made + cutter.finish()


@given(
    runs=st.lists(
        st.tuples(st.sampled_from(["good", "small", "outside", "second"]), st.integers(1, 30)),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_every_frame_is_in_exactly_one_piece(runs: list[tuple[str, int]]) -> None:
    kinds = [kind for kind, length in runs for _ in range(length)]
    pieces = cut(kinds, one_person=True)
    covered = sorted(frame for piece in pieces for frame in range(piece.first, piece.end))
    assert covered == list(range(len(kinds)))
    for piece in pieces:
        if isinstance(piece, Candidate):
            assert 4 <= len(piece.faces) < 14
            assert all(kinds[face.frame] == "good" for face in piece.faces)
            assert [face.frame for face in piece.faces] == list(range(piece.first, piece.end))
        elif piece.outcome == "too_short":
            assert piece.end - piece.first < 4
        else:
            reason = {
                "small": "face_too_small",
                "outside": "out_of_picture",
                "second": "second_person",
            }
            assert {reason[kinds[frame]] for frame in range(piece.first, piece.end)} == {
                piece.outcome
            }


def test_a_short_rest_lengthens_the_clip_before_it() -> None:
    assert [(piece.first, piece.end) for piece in cut(["good"] * 33)] == [
        (0, 10),
        (10, 20),
        (20, 33),
    ]
    assert [(piece.first, piece.end) for piece in cut(["good"] * 34)] == [
        (0, 10),
        (10, 20),
        (20, 30),
        (30, 34),
    ]


def test_clips_overlap_as_asked_and_still_cover_all() -> None:
    assert [(piece.first, piece.end) for piece in cut(["good"] * 31, OVERLAPPING)] == [
        (0, 10),
        (7, 17),
        (14, 24),
        (21, 31),
    ]
    for length in range(4, 60):
        pieces = cut(["good"] * length, OVERLAPPING)
        assert {frame for piece in pieces for frame in range(piece.first, piece.end)} == set(
            range(length)
        )
        assert all(isinstance(piece, Candidate) for piece in pieces)


def test_a_second_person_matters_only_where_one_identity_is_known() -> None:
    (piece,) = cut(["second"] * 10)
    assert isinstance(piece, Candidate)
    (piece,) = cut(["second"] * 10, one_person=True)
    assert isinstance(piece, TrackPiece)
    assert piece.outcome == "second_person"


def test_rejected_faces_leave_a_picture_to_look_at() -> None:
    (piece,) = cut(["small"] * 3)
    assert isinstance(piece, TrackPiece)
    assert len(piece.picture) > 200

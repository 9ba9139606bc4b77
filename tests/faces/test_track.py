"""Who is who from frame to frame: tracks end where one person's unbroken presence ends, and
nowhere else.
"""

from ausl_dist.faces.settings import FaceSettings
from ausl_dist.faces.track import FaceTracker
from tests.support.faces_drawn import Script, face_at


def run(
    script: Script,
    *,
    splices: tuple[int, ...] = (),
    scenes: tuple[int, ...] = (),
    **values: float,
) -> dict[int, list[int]]:
    """Frames of each track."""
    tracker = FaceTracker(script.detector, script, FaceSettings(**values), 25.0)  # type: ignore[arg-type]
    tracks: dict[int, list[int]] = {}
    ended: list[int] = []
    for frame in script.frames(splices, scenes=scenes):
        step = tracker.step(frame)
        ended += step.ended
        for sighting in step.sightings:
            assert sighting.track not in ended, "a track that has ended came back"
            tracks.setdefault(sighting.track, []).append(frame.index)
    assert sorted([*ended, *tracker.live]) == sorted(tracks)
    return tracks


def still(frames: int) -> list[list]:
    return [[face_at(200, 200)] for _ in range(frames)]


def test_one_person_is_one_track_and_detection_is_rare() -> None:
    script = Script([[face_at(200 + 2 * t, 200)] for t in range(100)])
    assert run(script) == {0: list(range(100))}
    assert script.detections == 10


def test_two_people_are_two_tracks_and_the_larger_ranks_first() -> None:
    script = Script([[face_at(150, 200, 80), face_at(450, 200, 120)] for _ in range(30)])
    assert run(script) == {0: list(range(30)), 1: list(range(30))}
    tracker = FaceTracker(script.detector, script, FaceSettings(), 25.0)  # type: ignore[arg-type]
    step = tracker.step(next(script.frames()))
    assert [(sighting.rank, sighting.face.extent[0] > 300) for sighting in step.sightings] == [
        (0, True),
        (1, False),
    ]


def test_a_cut_ends_every_track_even_when_a_face_stands_in_the_same_place() -> None:
    tracks = run(Script(still(60)), scenes=(30,))
    assert tracks == {0: list(range(30)), 1: list(range(30, 60))}


def test_a_splice_ends_every_track() -> None:
    assert run(Script(still(60)), splices=(20,)) == {0: list(range(20)), 1: list(range(20, 60))}


def test_a_light_that_is_switched_is_no_cut() -> None:
    script = Script(still(40))
    tracker = FaceTracker(script.detector, script, FaceSettings(), 25.0)  # type: ignore[arg-type]
    for frame in script.frames():
        if frame.index >= 20:
            frame.pixels[1:] = (frame.pixels[1:] * 0.5).astype("uint8")
        assert [sighting.track for sighting in tracker.step(frame).sightings] == [0]


def test_who_leaves_and_comes_back_is_a_new_track() -> None:
    script = Script([[face_at(200, 200)] if not 20 <= t < 40 else [] for t in range(60)])
    tracks = run(script)
    assert tracks[0] == list(range(20))
    assert tracks[1][0] - 40 <= 3
    assert tracks[1][-1] == 59


def test_a_newcomer_is_found_at_the_next_detection() -> None:
    script = Script(
        [[face_at(200, 200)] + ([face_at(450, 200)] if t >= 25 else []) for t in range(60)]
    )
    assert run(script)[1][0] - 25 <= 10


def test_a_face_that_jumps_is_somebody_else() -> None:
    script = Script([[face_at(150 if t < 20 else 300, 200, 100)] for t in range(40)])
    assert run(script) == {0: list(range(20)), 1: list(range(20, 40))}


def test_a_track_that_the_detector_never_sees_again_ends() -> None:
    script = Script(still(100), detect=range(15))
    (frames,) = run(script).values()
    assert 30 <= len(frames) < 60


def test_no_more_faces_than_asked_for_and_the_largest_of_them() -> None:
    script = Script(
        [[face_at(100 + 150 * k, 200, 60 + 15 * k) for k in range(4)] for _ in range(12)]
    )
    tracker = FaceTracker(script.detector, script, FaceSettings(max_faces=2), 25.0)  # type: ignore[arg-type]
    for frame in script.frames():
        sizes = sorted(sighting.face.eye_pixels for sighting in tracker.step(frame).sightings)
    everyone = sorted(face.eye_pixels for face in script.faces[0])
    assert sizes != everyone[:2]
    assert len(sizes) == 2


def test_faces_that_merge_leave_one_track() -> None:
    script = Script(
        [
            [face_at(200 + min(t, 30) * 4, 200)] + ([face_at(330, 200)] if t < 30 else [])
            for t in range(60)
        ]
    )
    tracks = run(script)
    assert sum(40 in frames for frames in tracks.values()) == 1

"""The built-in head: a face whose action units do what their names say, on every identity."""

import numpy as np
import pytest

from ausl_dist.faces.landmarks import ANCHORS, MIRROR, TEMPLATE
from ausl_dist.randomness import random_stream
from ausl_dist.world import anatomy
from ausl_dist.world.head import BuiltinHead, PosedFace


@pytest.fixture(scope="module")
def head() -> BuiltinHead:
    return BuiltinHead()


@pytest.fixture(scope="module")
def faces(head: BuiltinHead) -> list[PosedFace]:
    return [head.face(random_stream("test face", number)) for number in range(6)]


def _moved(head: BuiltinHead, face: PosedFace, unit: int) -> np.ndarray:
    """Displacement [68, 3] of the landmarks at intensity 5."""
    return face.units[head.action_units.index(unit)][head.mesh.landmarks]


def _down(head: BuiltinHead, face: PosedFace, unit: int, landmarks: list[int]) -> float:
    return float(_moved(head, face, unit)[landmarks, 1].mean())


def _gap(points: np.ndarray, upper: list[int], lower: list[int]) -> float:
    return float((points[lower, 1] - points[upper, 1]).mean())


def test_the_mean_skin_is_exactly_symmetric() -> None:
    skin = anatomy.build_skin()
    marks = skin.points[skin.landmarks]
    np.testing.assert_array_equal(marks * [-1, 1, 1], marks[MIRROR])
    there = {tuple(np.round(point, 6)) for point in skin.points}
    assert all(tuple(np.round(point * [-1, 1, 1], 6) + 0.0) in there for point in skin.points)


def test_the_mean_face_fits_the_alignment_template() -> None:
    skin = anatomy.build_skin()
    marks = skin.points[skin.landmarks][ANCHORS, :2]
    middle = TEMPLATE[[0, 3]].mean(0)
    # a millimetre of the mean face is a pixel of the template
    assert np.abs(marks + middle - TEMPLATE).max() < 2.0


def test_all_triangles_of_the_chart_face_the_viewer() -> None:
    skin = anatomy.build_skin()
    (ax, ay), (bx, by), (cx, cy) = (skin.chart[skin.triangles[:, i]].T for i in range(3))
    assert ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay) > 0).all()


def test_landmarks_lie_on_different_vertices_inside_the_head(
    head: BuiltinHead, faces: list[PosedFace]
) -> None:
    assert len(set(head.mesh.landmarks.tolist())) == 68
    for face in faces:
        marks = face.points[head.mesh.landmarks]
        low, high = face.points[:, :2].min(0), face.points[:, :2].max(0)
        assert (marks[:, :2] >= low).all()
        assert (marks[:, :2] <= high).all()
        # Brows above eyes above nose above mouth above chin.
        order = [
            marks[part, 1].mean()
            for part in (
                slice(17, 27),
                slice(36, 48),
                slice(31, 36),
                slice(48, 68),
                slice(7, 10),
            )
        ]
        assert order == sorted(order)


def test_brows(head: BuiltinHead, faces: list[PosedFace]) -> None:
    inner, outer = [21, 22], [17, 18, 25, 26]
    for face in faces:
        assert _down(head, face, 1, inner) < -5
        assert abs(_down(head, face, 1, [17, 26])) < 2
        assert _down(head, face, 2, outer) < -4
        assert abs(_down(head, face, 2, inner)) < 2
        assert _down(head, face, 4, inner) > 3
        # drawn together
        assert _moved(head, face, 4)[21, 0] > 1 > -1 > _moved(head, face, 4)[22, 0]


def test_lids(head: BuiltinHead, faces: list[PosedFace]) -> None:
    upper, lower = [37, 38, 43, 44], [41, 40, 47, 46]
    for face in faces:
        marks = face.points[head.mesh.landmarks]
        opening = _gap(marks, upper, lower)
        after = {
            unit: _gap(marks + _moved(head, face, unit), upper, lower) / opening
            for unit in (5, 6, 7, 43)
        }
        assert after[5] > 1.3
        assert after[6] < 0.9
        assert after[7] < 0.7
        assert abs(after[43]) < 0.05  # closed, whatever the opening of this identity


def test_nose_and_mouth(head: BuiltinHead, faces: list[PosedFace]) -> None:
    corners, upper_lip, lower_lip, chin = [48, 54], [50, 51, 52], [56, 57, 58], [7, 8, 9]
    for face in faces:
        width = {
            unit: float(np.diff(_moved(head, face, unit)[corners, 0])[0])
            for unit in (12, 14, 18, 20, 23)
        }
        assert _down(head, face, 12, corners) < -5
        assert width[12] > 8
        assert _down(head, face, 15, corners) > 5
        assert width[20] > 8
        assert abs(_down(head, face, 20, corners)) < 4
        assert width[14] > 4
        assert width[18] < -8
        assert width[23] < -4
        assert _down(head, face, 9, [31, 35]) < -2
        assert _down(head, face, 10, upper_lip) < -3
        assert _down(head, face, 17, chin) < -2
        assert _down(head, face, 26, chin) > 8
        assert abs(_down(head, face, 26, [51, 27])) < 0.5  # the upper jaw stays
        thickness = _moved(head, face, 24)
        assert thickness[lower_lip, 1].mean() - thickness[upper_lip, 1].mean() < -4


def test_lips_meet_at_rest_and_part_with_25_and_26(
    head: BuiltinHead, faces: list[PosedFace]
) -> None:
    upper, lower = [61, 62, 63], [67, 66, 65]
    for face in faces:
        marks = face.points[head.mesh.landmarks]
        assert abs(_gap(marks, upper, lower)) < 1e-4
        assert _gap(marks + _moved(head, face, 25), upper, lower) > 4
        assert _gap(marks + _moved(head, face, 26), upper, lower) > 8
        for unit in set(head.action_units) - {10, 25, 26}:
            assert abs(_gap(marks + _moved(head, face, unit), upper, lower)) < 4, (
                f"AU {unit} opens the mouth"
            )


def test_every_unit_moves_skin_and_most_make_folds(
    head: BuiltinHead, faces: list[PosedFace]
) -> None:
    assert np.linalg.norm(faces[0].units, axis=2).max(1).min() > 2
    without = {
        unit
        for unit, fold in zip(head.action_units, head.mesh.folds, strict=True)
        if fold is None
    }
    assert without == {5, 25}


def test_identities_differ_in_shape_and_colour(
    head: BuiltinHead, faces: list[PosedFace]
) -> None:
    for a in range(len(faces)):
        for b in range(a):
            marks = faces[a].points[head.mesh.landmarks] - faces[b].points[head.mesh.landmarks]
            assert np.abs(marks).max() > 3
            assert np.abs(faces[a].atlas.astype(int) - faces[b].atlas).mean() > 5


def test_the_same_stream_gives_the_same_face(head: BuiltinHead, faces: list[PosedFace]) -> None:
    again = BuiltinHead().face(random_stream("test face", 2))
    np.testing.assert_array_equal(again.points, faces[2].points)
    np.testing.assert_array_equal(again.units, faces[2].units)
    np.testing.assert_array_equal(again.atlas, faces[2].atlas)

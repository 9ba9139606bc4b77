"""A head from a file renders like the built-in one, and a file that is none is refused with a
reason.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ausl_dist.randomness import random_stream
from ausl_dist.world.anatomy import build_skin
from ausl_dist.world.expressions import ACTION_UNITS, shape_fields, unit_fields
from ausl_dist.world.file_head import FileHead
from ausl_dist.world.render import World

ICT = "ict_facekit/ict_facekit_light_f16.npz"


def _small_head() -> dict[str, np.ndarray[Any, Any]]:
    """The built-in skin in the format of a file: y up, centimetres, somewhere else in space."""
    skin = build_skin()
    units = unit_fields(skin, skin.points)
    flip = np.array([0.1, -0.1, 0.1])
    shapes = {"jawOpen": 26, "mouthSmile_L": 12, "browInnerUp_L": 1, "eyeBlink_L": 43}
    return {
        "neutral": (skin.points * flip + [3, 20, -5]).astype(np.float32),
        "triangles": skin.triangles[:, ::-1][:, [1, 2, 0]].astype(np.int32),
        "triangle_material": np.zeros(len(skin.triangles), np.int8),
        "material_names": np.array(["M_Face"]),
        "multipie68_vertices": skin.landmarks.astype(np.int32),
        "identity_delta": (shape_fields(skin.points) * flip).astype(np.float16),
        "expression_delta": np.stack(
            [units[ACTION_UNITS.index(unit)] * flip for unit in shapes.values()]
        ).astype(np.float16),
        "expression_names": np.array(list(shapes)),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def save(**changes: Any) -> Path:
        arrays = {**_small_head(), **changes}
        path = tmp_path / "head.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return save


def test_a_small_file_head_renders(write: Callable[..., Path]) -> None:
    head = FileHead(write())
    assert head.action_units == (1, 12, 26, 27, 43)
    clip = World(head, size=64, seconds=0.2, seed=1).clip(0, 0)
    assert clip.frame(0).shape == (64, 64, 3)
    assert clip.landmarks.min() > 0
    assert clip.landmarks.max() < 63


def test_units_move_what_they_should(write: Callable[..., Path]) -> None:
    head = FileHead(write())
    face = head.face(random_stream("file head", 0))
    marks = {
        unit: face.units[row][head.mesh.landmarks] for row, unit in enumerate(head.action_units)
    }
    assert marks[1][[21, 22], 1].max() < -4  # up: y points down here, whatever the file does
    assert marks[12][[48, 54], 1].max() < -4
    assert marks[27][8, 1] > 8


def test_name_changes_with_the_content(write: Callable[..., Path]) -> None:
    name = FileHead(write()).name
    assert FileHead(write(neutral=_small_head()["neutral"] * 1.01)).name != name


def test_faces_the_viewer_whatever_way_triangles_are_given(write: Callable[..., Path]) -> None:
    first, second = (
        FileHead(write()),
        FileHead(write(triangles=_small_head()["triangles"][:, ::-1])),
    )
    frames = [World(head, size=64, seconds=0.2, seed=1).clip(0, 0) for head in (first, second)]
    assert frames[0].landmarks.shape == frames[1].landmarks.shape
    # the face covers the middle of the crop: flow there is the face's, not the background's
    for clip in frames:
        assert clip.flow(0, 1).visible[20:50, 20:44].mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expression_names": None}, "has no array expression_names"),
        ({"neutral": np.zeros((5, 3), np.float32)}, "a head has 100"),
        (
            {
                "triangles": np.array([[0, 1, 10**6]], np.int32),
                "triangle_material": np.zeros(1, np.int8),
            },
            "points outside",
        ),
        ({"triangle_material": np.full(3210, 3, np.int8)}, "points outside"),
        ({"multipie68_vertices": np.arange(67)}, "shape"),
        ({"neutral": np.zeros((10, 3), np.int32)}, "kind f"),
        ({"material_names": np.array(["M_Lashes"])}, "no triangle is skin"),
        ({"expression_names": np.array(["a", "b", "c", "d"])}, "blendshapes"),
        ({"multipie68_vertices": np.zeros(68, np.int32)}, "coincide"),
    ],
)
def test_files_that_are_no_head_are_refused(
    write: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FileHead(write(**changes))


def test_numbers_that_are_not_finite_are_refused(write: Callable[..., Path]) -> None:
    neutral = _small_head()["neutral"]
    neutral[7, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        FileHead(write(neutral=neutral))


def test_pickles_and_other_files_are_refused(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    (tmp_path / "text.npz").write_text("no head")
    with pytest.raises(ValueError, match=r"not an \.npz"):
        FileHead(tmp_path / "text.npz")
    with pytest.raises(ValueError, match=r"pickle|Object arrays"):
        FileHead(write(expression_names=np.array(["jawOpen", 1, 2, 3], dtype=object)))
    with pytest.raises(FileNotFoundError):
        FileHead(tmp_path / "absent.npz")


def test_ict_facekit(faces: Path) -> None:
    if not (faces / ICT).is_file():
        pytest.skip(f"no {ICT} in the folder of face videos")
    head = FileHead(faces / ICT)
    assert set(head.action_units) >= {
        1,
        2,
        4,
        5,
        6,
        7,
        9,
        10,
        12,
        14,
        15,
        17,
        20,
        24,
        25,
        26,
        43,
    }
    clip = World(head, size=128, seconds=0.2, seed=1).clip(0, 0)
    frame = clip.frame(0)
    assert frame.std() > 20
    assert clip.landmarks.min() > 0
    assert clip.landmarks.max() < 127
    face = head.face(random_stream("ict", 0))
    marks = {
        unit: face.units[row][head.mesh.landmarks] for row, unit in enumerate(head.action_units)
    }
    assert marks[1][[21, 22], 1].max() < -2
    assert marks[12][[48, 54], 1].max() < -2
    assert marks[26][8, 1] > 4
    assert marks[15][[48, 54], 1].min() > 2

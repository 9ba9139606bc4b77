"""One-sided units move one half of the face, are labelled so, and change nothing for those who
do not ask for them.
"""

import numpy as np
import pytest

from ausl_dist.units import mirrored, side_of
from ausl_dist.world.head import BuiltinHead
from ausl_dist.world.make import WorldSettings
from ausl_dist.world.render import World

HEAD = BuiltinHead()
MOUTH_CORNERS = (48, 54)  # picture left, picture right: the person's right and left


@pytest.fixture(scope="module")
def sided() -> World:
    return World(HEAD, size=64, seconds=1.0, seed=3, one_sided=1.0)


def test_a_world_without_sides_says_and_shows_what_it_did(sided: World) -> None:
    plain = World(HEAD, size=64, seconds=1.0, seed=3)
    assert plain.head is HEAD
    assert "one_sided" not in WorldSettings(identities=1, clips=1).to_dict()
    assert WorldSettings(identities=1, clips=1, one_sided=0.5).to_dict()["one_sided"] == 0.5
    # the same people, the same strength of each unit
    assert np.array_equal(plain.face(0).points, sided.face(0).points)
    labels = sided.clip(0, 0).intensities
    assert np.array_equal(labels[:, : len(HEAD.action_units)], plain.clip(0, 0).intensities)


def test_both_halves_together_are_the_unit(sided: World) -> None:
    """Units drawn on both sides give the very faces of a world without sides."""
    both = World(HEAD, size=64, seconds=1.0, seed=3, one_sided=1e-9)
    plain = World(HEAD, size=64, seconds=1.0, seed=3)
    for number in range(2):
        np.testing.assert_allclose(
            both.clip(1, number).landmarks, plain.clip(1, number).landmarks, atol=1e-3
        )


def test_one_side_alone_moves_its_half_of_the_face(sided: World) -> None:
    assert sided.sided is not None
    at_rest = np.zeros((1, len(sided.sided.drawn)), np.float32)
    smile = at_rest.copy()
    smile[0, HEAD.action_units.index(12)] = 5
    for seed in range(4):
        stream = np.random.default_rng(seed)
        movements = sided.sided.movements(smile, 1.0, stream)
        units = dict(
            zip(sided.head.action_units, sided.sided.labels(movements)[0], strict=True)
        )
        assert units[12] == 5
        shown = next(unit for unit in (1012, 2012) if units[unit] == 5)
        assert units[mirrored(shown)] == 0
        face = sided.face(0)
        moved = np.tensordot(movements[0] / 5, face.units, 1)[sided.head.mesh.landmarks]
        still, moving = np.linalg.norm(moved[list(MOUTH_CORNERS)], axis=1)
        if side_of(shown) == "R":
            still, moving = moving, still
        assert moving > 5 > 20 * still  # millimetres


def test_labels_name_the_sides_that_show(sided: World) -> None:
    units = sided.head.action_units
    assert len(units) == len(HEAD.action_units) + 2 * 7
    labels = sided.clip(2, 1).intensities
    for unit in (1, 2, 4, 6, 10, 12, 14):
        left, right = (labels[:, units.index(side + unit)] for side in (1000, 2000))
        assert np.array_equal(labels[:, units.index(unit)], np.maximum(left, right))
        assert not (left * right).any()  # every one of them on one side alone here

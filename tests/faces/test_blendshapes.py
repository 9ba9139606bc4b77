"""The outside teacher: each action unit has its shapes, and on real faces a smile and a shut eye
are seen where they are.
"""

import numpy as np

from ausl_dist.faces.blendshapes import NAMES, POINTS, SHAPE_OF_UNIT, UNITS, unit_scores


def test_every_unit_has_its_shapes_and_no_other() -> None:
    assert len(NAMES) == 52
    assert len(set(POINTS)) == 146
    for name in ("eyeBlinkLeft", "browInnerUp", "mouthRollUpper"):
        scores = np.zeros(52)
        scores[NAMES.index(name)] = 1.0
        found = dict(zip(UNITS, unit_scores(scores), strict=True))
        (unit,) = (unit for unit, shape in SHAPE_OF_UNIT.items() if name.startswith(shape))
        assert [u for u, value in found.items() if value > 0] == [unit]

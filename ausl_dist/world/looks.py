"""What identities look like besides their shape: colours of skin, hair, eyes and lips, and the
marks that make a person known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# RGB. Skin from light to dark, hair and irises with the two darkest first: those are all that
# dark skin is given.
TONES = np.array(
    [
        [250, 222, 204],
        [240, 202, 176],
        [224, 178, 146],
        [196, 145, 110],
        [150, 102, 74],
        [104, 70, 50],
    ],
    float,
)
HAIR_COLOURS = np.array(
    [
        [28, 23, 20],
        [62, 42, 30],
        [104, 72, 46],
        [150, 110, 66],
        [204, 170, 116],
        [140, 66, 34],
        [150, 148, 146],
    ],
    float,
)
IRIS_COLOURS = np.array(
    [[72, 46, 28], [104, 72, 40], [96, 112, 70], [84, 122, 150], [112, 124, 132]], float
)
LIPSTICKS = np.array([[170, 50, 62], [196, 90, 96], [128, 38, 58]], float)


@dataclass(frozen=True)
class Look:
    """The colours and marks of one identity."""

    tone: Array  # RGB
    hair: Array
    iris: Array
    lips: Array
    cloth: Array
    fold_depth: float  # of the folds that action units make, about 0.7
    age: float  # 0 to 1: folds and shadows at rest
    blush: float
    freckles: int
    beard: float  # 0 none, 1 full
    bald: bool
    hairline: float  # mm above the mean
    parting: float  # mm by which the hairline is higher on one side
    volume: float  # mm of hair over the scalp
    long_hair: float  # mm of hair below the ears, 0 for none
    brow_thickness: float  # mm
    brow_density: float
    lashes: float


def draw_look(stream: np.random.Generator) -> Look:
    """A look at random."""
    darkness = stream.uniform(0, len(TONES) - 1.001)
    dark = darkness > 3
    tone = np.array(
        [np.interp(darkness, np.arange(len(TONES)), channel) for channel in TONES.T]
    ) * stream.uniform(0.95, 1.04, 3)
    masculine = bool(stream.random() < 0.5)
    lips = tone * [0.86, 0.66, 0.66] + [6, 0, 2]
    if not masculine and stream.random() < 0.5:
        lips = LIPSTICKS[stream.choice(len(LIPSTICKS))]
    freckled = bool(stream.random() < 0.2 and not dark)
    return Look(
        tone=tone,
        hair=HAIR_COLOURS[stream.choice(2 if dark else len(HAIR_COLOURS))]
        * stream.uniform(0.8, 1.2),
        iris=IRIS_COLOURS[stream.choice(2 if dark else len(IRIS_COLOURS))]
        * stream.uniform(0.85, 1.15),
        lips=lips * stream.uniform(0.92, 1.06),
        cloth=stream.uniform(30, 220, 3),
        fold_depth=float(stream.uniform(0.45, 1.0)),
        age=float(stream.uniform(0, 1) ** 1.5),
        blush=float(stream.uniform(0.2, 1) * (0.5 if dark else 1)),
        freckles=int(stream.integers(60, 220) if freckled else stream.integers(0, 8)),
        beard=float(stream.uniform(0.15, 1)) if masculine and stream.random() < 0.5 else 0.0,
        bald=bool(masculine and stream.random() < 0.15),
        hairline=float(stream.normal(0, 5)),
        parting=float(stream.normal(0, 5)),
        volume=float(stream.uniform(3, 13)),
        long_hair=float(stream.uniform(30, 130))
        if not masculine and stream.random() < 0.7
        else 0.0,
        brow_thickness=float(
            stream.uniform(5.5, 8.5) if masculine else stream.uniform(3.8, 6.5)
        ),
        brow_density=float(stream.uniform(0.65, 0.95)),
        lashes=float(stream.uniform(0.4, 0.7) if masculine else stream.uniform(0.6, 1)),
    )

"""How motion between two frames is stored: KEY.flow.npy holds the mean of each cell of a grid, in
one byte.

    flows H W 2, pixels of the frame ──▶ mean of each cell ──▶ int8 2 cells cells

Quarters of a pixel in one byte reach 31.75 pixels, an eighth of a crop; what moves faster is cut
off there.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.convention import CROP_SIZE
from ausl_dist.shards.clip import FLOW_STEPS_PER_PIXEL


def in_cells(flows: list[NDArray[np.float32]], cells: int) -> NDArray[np.int8]:
    """Flows [H, W, 2] in pixels of square frames, as they are stored: int8 [N, 2, cells, cells]
    in quarters of a 256-pixel crop's pixel.
    """
    means = np.stack(
        [cv2.resize(flow, (cells, cells), interpolation=cv2.INTER_AREA) for flow in flows]
    )
    steps_per_pixel = FLOW_STEPS_PER_PIXEL * CROP_SIZE / len(flows[0])
    steps = np.rint(steps_per_pixel * means).clip(-127, 127).astype(np.int8)
    return np.ascontiguousarray(steps.transpose(0, 3, 1, 2))

"""How a face moves between two frames of a view, measured while the clip is prepared: on the
CPU, beside the training and not within it.

    pictures of frames t and t + gap, S S 3 ──▶ grey ──▶ DIS ──▶ 2 (x, y) S S, pixels of the view

DIS: Kroeger et al., ECCV 2016, as in OpenCV. Measured between the pictures as they are cropped
and mirrored, before colours change, so that the flow needs no correction. 10 ms for a pair of
224 pixels: a corpus that stores motion (`flow.gap_frames`) spares every epoch that.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

# Raise it when the same clips give other motion. 1 measured it between normalised pictures.
MOTION_VERSION = 2


def measured_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flow 2 (x, y) S S in pixels from one RGB picture S S 3 to the other."""
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = estimator.calc(*greys, None)  # type: ignore[call-overload]
    return np.ascontiguousarray(flow.transpose(2, 0, 1))

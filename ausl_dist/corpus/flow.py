"""How a face moves between two frames of its clip, measured once, for objectives that predict it.

    crops T 256 256 3 ──▶ DIS optical flow from frame t to t + gap ──▶ mean of each cell ──▶ int8 T-gap 2 cells cells (KEY.flow.npy)

DIS: Kroeger et al., ECCV 2016, as in OpenCV. The crops are aligned, so little of this is the head's own motion; what is left of it is not
taken off here. Quarters of a pixel in one byte reach 31.75 pixels, an eighth of a crop; what moves faster is cut off there.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.settings import FlowEstimator, FlowSettings

STEPS_PER_PIXEL = 4
_PRESETS: dict[FlowEstimator, int] = {
    "dis_ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "dis_fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "dis_medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def motion(crops: NDArray[np.uint8], settings: FlowSettings) -> NDArray[np.int8]:
    """Motion (x, y) of frames [T, H, W, 3] to those `gap_frames` later: int8 [T - gap, 2, cells, cells] in quarters of a pixel."""
    estimator = cv2.DISOpticalFlow.create(_PRESETS[settings.estimator])
    greys = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    pairs = zip(greys, greys[settings.gap_frames :], strict=False)
    flows = [estimator.calc(first, second, None) for first, second in pairs]  # type: ignore[call-overload]
    cells = np.stack([cv2.resize(flow, (settings.cells, settings.cells), interpolation=cv2.INTER_AREA) for flow in flows])
    steps = np.rint(STEPS_PER_PIXEL * cells).clip(-127, 127).astype(np.int8)
    return np.ascontiguousarray(steps.transpose(0, 3, 1, 2))

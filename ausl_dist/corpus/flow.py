"""How a face moves between two frames of its clip, measured once, for objectives that predict
it.

    crops T 256 256 3 ──▶ DIS optical flow from frame t to t + gap ──▶ mean of each cell
                      ──▶ int8 T-gap 2 cells cells (KEY.flow.npy)

DIS: Kroeger et al., ECCV 2016, as in OpenCV. The crops are aligned, which takes off how the
head moves in the picture, but not how it turns; `single_image_flow` takes off that.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.settings import FlowEstimator, FlowSettings
from ausl_dist.shards.flow import in_cells

_PRESETS: dict[FlowEstimator, int] = {
    "dis_ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "dis_fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "dis_medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def motion(crops: NDArray[np.uint8], settings: FlowSettings) -> NDArray[np.int8]:
    """Motion (x, y) of frames [T, H, W, 3] to those `gap_frames` later: int8 [T - gap, 2,
    cells, cells] in quarters of a pixel.
    """
    estimator = cv2.DISOpticalFlow.create(_PRESETS[settings.estimator])
    greys = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    pairs = zip(greys, greys[settings.gap_frames :], strict=False)
    return in_cells(
        [estimator.calc(first, second, None) for first, second in pairs],  # type: ignore[call-overload]
        settings.cells,
    )

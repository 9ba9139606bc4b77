"""How a face moves between two frames of its clip, measured once, for objectives that predict
it.

    crops T 256 256 3 ──▶ DIS optical flow from frame t to t + gap ──▶ mean of each cell
                      ──▶ int8 T-gap 2 cells cells (KEY.flow.npy)

DIS: Kroeger et al., ECCV 2016, as in OpenCV. The crops are aligned, which takes off how the
head moves in the picture, but not how it turns; `single_image_flow` takes off that. Quarters of
a pixel in one byte reach 31.75 pixels, an eighth of a crop; what moves faster is cut off there.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.corpus.settings import FlowEstimator, FlowSettings
from ausl_dist.faces.landmarks import CROP_SIZE
from ausl_dist.shards.clip import FLOW_STEPS_PER_PIXEL

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

"""Action units as somebody else's model sees them: the 52 blendshapes of MediaPipe's
face_landmarker.task, a teacher to agree with where nobody has coded a video.

    mesh 478 2 ──146 of its points──▶ face_blendshapes.tflite ──▶ 52 scores, 0 to 1
        ──mean of left and right──▶ one score an action unit

Which points and which names in which order: mediapipe's face_blendshapes_graph.cc. Which shapes
stand for which unit is ours, after the names (ARKit's): the model was never shown FACS codes, so
agreement with it is no accuracy.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ausl_dist.faces.models import LANDMARKER, find_model

MEMBER = "face_blendshapes.tflite"
MAX_MODEL_BYTES = 16 << 20
# fmt: off
POINTS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65,
    66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136,
    144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168,
    172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276,
    282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380,
    381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466,
    468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
NAMES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft",
    "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft",
    "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen",
    "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)
# fmt: on
SHAPE_OF_UNIT = {
    1: "browInnerUp",
    2: "browOuterUp",
    4: "browDown",
    5: "eyeWide",
    6: "cheekSquint",
    7: "eyeSquint",
    9: "noseSneer",
    10: "mouthUpperUp",
    12: "mouthSmile",
    14: "mouthDimple",
    15: "mouthFrown",
    16: "mouthLowerDown",
    17: "mouthShrugLower",
    18: "mouthPucker",
    20: "mouthStretch",
    22: "mouthFunnel",
    24: "mouthPress",
    26: "jawOpen",
    28: "mouthRoll",
    43: "eyeBlink",
}
UNITS = tuple(SHAPE_OF_UNIT)


class Blendshapes:
    """The blendshape model, run without mediapipe."""

    def __init__(self, models: Path | str | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter  # 0.3 s

        with zipfile.ZipFile(find_model(LANDMARKER, models)) as bundle:
            if bundle.getinfo(MEMBER).file_size > MAX_MODEL_BYTES:
                raise ValueError(f"{MEMBER} is larger than {MAX_MODEL_BYTES} bytes")
            content = bundle.read(MEMBER)
        self._net = Interpreter(model_content=content, num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]

    def __call__(self, mesh: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scores of all blendshapes, 52, of a mesh 478 2 in pixels."""
        self._net.set_tensor(self._input, mesh[None, list(POINTS)].astype(np.float32))
        self._net.invoke()
        return np.array(self._net.get_tensor(self._output), np.float32)


def unit_scores(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """One score for each of UNITS, [..., 20], of blendshapes [..., 52]: the mean of the shapes
    whose names begin with the unit's.
    """
    columns = [
        [column for column, name in enumerate(NAMES) if name.startswith(shape)]
        for shape in SHAPE_OF_UNIT.values()
    ]
    return np.stack([scores[..., own].mean(-1) for own in columns], -1).astype(np.float32)

"""Tables as the field's tools write them."""

from collections.abc import Mapping

OPENFACE_COLUMNS = (
    *("frame", "face_id", "timestamp", "confidence", "success"),
    *("gaze_0_x", "gaze_angle_x", "eye_lmk_x_0", "eye_lmk_X_55", "pose_Tx", "pose_Rz"),
    *("x_0", "y_67", "X_12", "Z_67", "p_scale", "p_rx", "p_tx", "p_33"),
    *("AU01_r", "AU12_r", "AU01_c", "AU12_c", "AU28_c"),
)
OPENFACE_HEADER = ", ".join(OPENFACE_COLUMNS)


def openface_row(frame: int, values: Mapping[str, float], *, success: int = 1) -> str:
    """A line of OpenFace's output, which counts frames from 1 and stands zeros where it is
    lost.
    """
    known = {
        "frame": frame,
        "timestamp": (frame - 1) / 25,
        "success": success,
        "confidence": 0.98,
    }
    return ", ".join(str({**known, **values}.get(name, 0)) for name in OPENFACE_COLUMNS)

"""A picture as the text that a page of one file carries."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

QUALITY = 80


def jpeg_base64(pixels: NDArray[np.uint8]) -> str:
    """RGB pixels H W 3 as JPEG in base64, for `page.picture`."""
    _, data = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return base64.b64encode(data.tobytes()).decode()

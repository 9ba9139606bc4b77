"""What a landmark and a crop are, for shards and faces alike: neither of the two knows the
other.

Points are (x, y) in pixels, y downwards, pixel centres at integer coordinates, in iBUG / dlib
order, 0-based: jaw 0-16, brows 17-21 (image left) and 22-26, nose bridge 27-30, nose base
31-35, eyes 36-41 and 42-47, outer lip 48-59, inner lip 60-67.
"""

import numpy as np

NUM_LANDMARKS = 68
CROP_SIZE = 256  # side of an aligned crop, pixels

# Index of each point's partner in the mirrored face. After x -> width - 1 - x, `points[MIRROR]` is
# again in iBUG order.
MIRROR = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1)),  # jaw, brows
        *(27, 28, 29, 30, 35, 34, 33, 32, 31),  # nose
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),  # outer lip
        *(64, 63, 62, 61, 60, 67, 66, 65),  # inner lip
    ]
)

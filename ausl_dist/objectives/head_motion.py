"""The motion of a rigid head in optical flow: fitted where the skin hardly moves on the skull,
and taken off everywhere.

    landmarks ──▶ pose of the mean face ──▶ depth of each landmark ──▶ depth of each pixel ─┐
    flow at still points ──▶ six numbers, by a robust fit
        ──────────────────────────────────┴──▶ flow of a rigid head

To first order, under weak perspective, a head's motion is a shift, a growth, a turn in the
picture, and two turns out of it, which move each point by its depth. No point is wholly still:
action units 6, 9 and 10 move some of them, and part of what these do is taken off with the
head. Points of the jaw would steady the fit, but lie on the silhouette of a turned head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ausl_dist.objectives.base import in_float32

STILL = (*range(27, 36), 36, 39, 42, 45)  # nose, eye corners
# of the distance between the outer eye corners: how far the depth of a landmark reaches
DEPTH_BLUR = 0.06
DEPTH_CELLS = 32  # a side: depth is smooth enough for a coarse grid
# of that distance: a point that is further off counts for less, the further the less
TOLERANCE = 0.005
REWEIGHTINGS = 5
RIDGE = 1e-3  # so that landmarks all in one place have a solution, too

# The built-in head's mean face at rest, in distances between the outer eye corners: x to the
# right of the picture, y down, z to the viewer.
MEAN_FACE = (
    # jaw
    *(
        (-0.84, -0.09, -0.89),
        (-0.79, 0.11, -0.86),
        (-0.78, 0.30, -0.81),
        (-0.69, 0.50, -0.75),
        (-0.62, 0.69, -0.64),
        (-0.51, 0.85, -0.48),
    ),
    *(
        (-0.36, 0.98, -0.27),
        (-0.17, 1.09, -0.11),
        (0.0, 1.15, -0.08),
        (0.17, 1.09, -0.11),
        (0.36, 0.98, -0.27),
        (0.51, 0.85, -0.48),
    ),
    *(
        (0.62, 0.69, -0.64),
        (0.69, 0.50, -0.75),
        (0.78, 0.30, -0.81),
        (0.79, 0.11, -0.86),
        (0.84, -0.09, -0.89),
    ),
    # brows
    *(
        (-0.58, -0.27, -0.32),
        (-0.50, -0.34, -0.20),
        (-0.39, -0.38, -0.09),
        (-0.27, -0.38, -0.01),
        (-0.14, -0.33, 0.04),
    ),
    *(
        (0.14, -0.33, 0.04),
        (0.27, -0.38, -0.01),
        (0.39, -0.38, -0.09),
        (0.50, -0.34, -0.20),
        (0.58, -0.27, -0.32),
    ),
    # nose
    *((0.0, -0.10, 0.04), (0.0, 0.04, 0.09), (0.0, 0.18, 0.16), (0.0, 0.32, 0.24)),
    *(
        (-0.16, 0.40, 0.08),
        (-0.08, 0.43, 0.09),
        (0.0, 0.45, 0.11),
        (0.08, 0.43, 0.09),
        (0.16, 0.40, 0.08),
    ),
    # eyes
    *(
        (-0.50, -0.12, -0.23),
        (-0.39, -0.17, -0.14),
        (-0.28, -0.17, -0.07),
        (-0.16, -0.11, -0.03),
        (-0.28, -0.07, -0.09),
    ),
    *(
        (-0.39, -0.07, -0.15),
        (0.16, -0.11, -0.03),
        (0.28, -0.17, -0.07),
        (0.39, -0.17, -0.14),
        (0.50, -0.12, -0.23),
        (0.39, -0.07, -0.15),
    ),
    (0.28, -0.07, -0.09),
    # outer lip
    *(
        (-0.28, 0.68, -0.08),
        (-0.17, 0.64, 0.01),
        (-0.06, 0.61, 0.04),
        (0.0, 0.62, 0.05),
        (0.06, 0.61, 0.04),
        (0.17, 0.64, 0.01),
    ),
    *(
        (0.28, 0.68, -0.08),
        (0.18, 0.75, -0.01),
        (0.09, 0.78, 0.01),
        (0.0, 0.79, 0.02),
        (-0.09, 0.78, 0.01),
        (-0.18, 0.75, -0.01),
    ),
    # inner lip
    *((-0.26, 0.68, -0.06), (-0.09, 0.68, 0.03), (0.0, 0.68, 0.05), (0.09, 0.68, 0.03)),
    *((0.26, 0.68, -0.06), (0.09, 0.68, 0.03), (0.0, 0.68, 0.05), (-0.09, 0.68, 0.03)),
)  # fmt: skip


@torch.no_grad()
def head_motion_removed(flow: Tensor, landmarks: Tensor) -> Tensor:
    """Flow B 2 H W minus that of a rigid head with landmarks B 68 2; both in pixels of the
    flow, centres at integers.
    """
    height, width = flow.shape[-2], flow.shape[-1]
    with in_float32(flow):
        landmarks, values = landmarks.float(), flow.float()
        # B 1 1
        unit = (landmarks[:, 45] - landmarks[:, 36]).norm(dim=-1).clamp(min=1.0)[:, None, None]
        depths = _posed_depths(landmarks) / unit[..., 0]  # B 68
        still = landmarks[:, STILL, :]  # B P 2
        middle = still.mean(1, keepdim=True)
        at = (2 * still + 1) / still.new_tensor([width, height]) - 1
        # B P 2
        seen = F.grid_sample(values, at[:, None], padding_mode="border", align_corners=False)[
            :, :, 0
        ].transpose(1, 2)
        # B 6 1
        motion = _fitted(
            _rigid_motions((still - middle) / unit, depths[:, STILL]),
            seen,
            TOLERANCE * unit[..., 0],
        )
        pixels = _grid(width, height, landmarks)  # HW 2
        depth = _depth_map(landmarks, depths, DEPTH_BLUR * unit, (height, width)).flatten(
            1
        )  # B HW
        rigid = (_rigid_motions((pixels - middle) / unit, depth).flatten(1, 2) @ motion).view(
            len(flow), height, width, 2
        )
        return (values - rigid.movedim(-1, 1)).to(flow.dtype)


def _fitted(basis: Tensor, seen: Tensor, tolerance: Tensor) -> Tensor:
    """Motions B 6 1 of a basis B P 2 6 that give flow B P 2: least distances (Huber's,
    tolerance B 1), by reweighted least squares.

    Some points are hidden in a turned head, or moved by an expression.
    """
    weight = torch.ones_like(seen[..., 0])  # B P
    for _ in range(REWEIGHTINGS):
        weighted = (basis * weight[..., None, None]).flatten(1, 2).mT  # B 6 2P
        normal = weighted @ basis.flatten(1, 2) + RIDGE * torch.eye(6, device=basis.device)
        motion = torch.linalg.solve(normal, weighted @ seen.flatten(1)[..., None])
        distance = ((basis @ motion[:, None])[..., 0] - seen).norm(dim=-1)
        weight = tolerance / distance.maximum(tolerance)
    return motion


def _posed_depths(landmarks: Tensor) -> Tensor:
    """Depth B 68 in pixels, towards the viewer, of the mean face in the pose that fits
    landmarks B 68 2 best (weak perspective).
    """
    face = torch.tensor(MEAN_FACE).to(landmarks)
    face = face - face.mean(0)
    # B 3 2: where the axes of the face go in the picture
    rows = torch.linalg.pinv(face) @ (landmarks - landmarks.mean(1, keepdim=True))
    lengths = rows.norm(dim=1, keepdim=True).clamp(min=1e-6)  # B 1 2
    right, down = (rows / lengths).unbind(-1)  # B 3
    down = F.normalize(down - (down * right).sum(-1, keepdim=True) * right, dim=-1)
    return lengths.mean(-1) * (torch.linalg.cross(right, down) @ face.T)


def _rigid_motions(points: Tensor, depth: Tensor) -> Tensor:
    """How points B N 2 of depth B N move, x and y, in each of the six motions of a rigid head:
    B N 2 6.
    """
    x, y = points.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return torch.stack(
        [
            torch.stack([one, zero, x, -y, depth, zero], -1),
            torch.stack([zero, one, y, x, zero, depth], -1),
        ],
        -2,
    )


def _depth_map(
    landmarks: Tensor, depths: Tensor, blur: Tensor, size: tuple[int, int]
) -> Tensor:
    """Depth B H W around landmarks B 68 2 of depths B 68: their mean, weighted by Gaussians of
    width B 1 1.
    """
    height, width = (min(side, DEPTH_CELLS) for side in size)
    scale = landmarks.new_tensor([size[1] / width, size[0] / height])
    cells = (_grid(width, height, landmarks) + 0.5) * scale - 0.5  # hw 2
    far = torch.cdist(cells.expand(len(landmarks), -1, -1), landmarks) / blur  # B hw 68
    depth = ((-0.5 * far.square()).softmax(-1) @ depths[..., None]).view(-1, 1, height, width)
    return F.interpolate(depth, size, mode="bilinear")[:, 0]


def _grid(width: int, height: int, like: Tensor) -> Tensor:
    """(x, y) of the cells of a grid, in reading order: HW 2."""
    columns, rows = torch.arange(width).to(like), torch.arange(height).to(like)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)

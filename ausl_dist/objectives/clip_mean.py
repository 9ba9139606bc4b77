"""What a face does beyond its own mean over the clip: of landmarks, and of pixels.

    landmarks of T frames ──▶ their mean face ──fitted to each frame──▶ what is left: expression
                                                 └──▶ where its head stands: frames moved there
                                                      differ by expression, and by little else

Ours; targets of `landmark_deviation`, `masked_video` and `roi_inpainting`. Nine tenths of what
landmarks say are who it is and how the head stands, of pixels more. The first goes with the
clip's own mean, the second with an affine fit of this mean to each frame (to first order a
turned head under weak perspective), robust, so that a wide open mouth does not pull the fit.

Places move unequally: a brow by a tenth of what a jaw does. Each is measured in its own spread,
kept as a running mean of squares over the steps taken.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.objectives.base import Loss, gather, masked_mean

FITS = 4  # of the mean face to a frame, each weighted by the distances that the last one left
LEAST_SPREAD = 0.2  # of the mean spread: what hardly moves is noise, and stays small
RIDGE = 1e-4  # of the squared size of the face


class RunningMean(nn.Module):
    """The mean over clips and steps of numbers of one shape; equal on all ranks."""

    mean: Tensor  # of `shape`, times its weight
    weight: Tensor  # 1: 1 where the mean has many steps

    def __init__(self, *shape: int, memory: float = 0.99) -> None:
        super().__init__()
        if not 0 <= memory < 1:
            raise ValueError(f"the memory of a running mean lies in [0, 1), not {memory}")
        self.memory = memory
        self.register_buffer("mean", torch.zeros(*shape))
        self.register_buffer("weight", torch.zeros(1))
        self._staged: list[tuple[Tensor, Tensor]] = []

    def counted_in(self, own: Tensor, mask: Tensor) -> Tensor:
        """The mean, of `shape`, with this batch: the sum `own` over those of this rank's clips
        whose `mask`, B, is not 0.
        """
        total, count = gather(own[None]).sum(0), gather(mask.sum()[None]).sum()
        news = (1 - self.memory) * (count > 0)
        mean = (1 - news) * self.mean.float() + news * total / count.clamp(min=1)
        weight = (1 - news) * self.weight.float() + news
        self._staged.append((mean, weight))
        return mean / weight.clamp(min=1e-9)

    def after_step(self, taken: bool) -> None:
        """Keep what was staged, if the optimizer took the step."""
        staged, self._staged = self._staged, []
        for mean, weight in staged if taken else []:
            self.mean.copy_(mean)
            self.weight.copy_(weight)


class RunningSpread(RunningMean):
    """The root mean square of each of `shape` numbers over steps."""

    def forward(self, squares: Tensor, mask: Tensor) -> Tensor:
        """The spread, of `shape`, this batch counted in: mean squares B x `shape` of its clips,
        those alone whose `mask`, B, is not 0.
        """
        own = torch.einsum("b...,b->...", squares, mask.to(squares.dtype))
        spread = self.counted_in(own, mask).sqrt()
        return spread.maximum(LEAST_SPREAD * spread.mean()).clamp(min=1e-6)


class RunningWhitening(RunningMean):
    """Numbers in directions that are told apart by nobody's size: each in its own spread.

    Where many points move together, as all of a jaw, squared errors of single points count the
    one movement as often as it has points, and a nostril's not at all. With the covariance C of
    the numbers over steps, f a share of its mean variance and L L' = C + f, values v become L⁻¹ v:
    a movement with more variance than f then counts once, one with less is noise and stays small.
    What lies further off than `largest` spreads is cut, and all is brought to a mean square of 1.
    """

    def __init__(
        self, size: int, *, floor: float, largest: float, memory: float = 0.99
    ) -> None:
        super().__init__(size, size, memory=memory)
        if not floor > 0:
            raise ValueError(f"whitening: floor must be above 0, not {floor}")
        self.floor, self.largest = floor, largest

    @torch.no_grad()
    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Values B T D of mean 0, whitened, this batch counted in: those clips alone whose `mask`,
        B, is not 0.
        """
        own = torch.einsum("btd,bte,b->de", values, values, mask.to(values.dtype))
        covariance = self.counted_in(own / values.shape[1], mask)
        floor = self.floor * covariance.diagonal().mean() + 1e-12
        eye = torch.eye(len(covariance), device=covariance.device)
        lower = torch.linalg.cholesky_ex(covariance + floor * eye).L
        inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
        # of the whitened numbers: tr L⁻¹ C L⁻ᵀ / D
        square = 1 - floor * inverse.square().sum() / len(covariance)
        white = (values @ inverse.T).clamp(-self.largest, self.largest)
        return white / square.clamp(min=1e-6).sqrt()


def loss_of_deviations(guess: Tensor, truth: Tensor, mask: Tensor) -> Loss:
    """Squared error of guesses B ... of clips whose `mask`, B, is not 0; and the share of the
    truth's squares that it leaves.
    """
    error = (guess - truth).square().flatten(1).mean(1)  # B
    size = truth.square().flatten(1).mean(1)
    unexplained = masked_mean(error.detach(), mask) / masked_mean(size, mask).clamp(1e-9)
    return Loss(masked_mean(error, mask), {"unexplained": unexplained})


@torch.no_grad()
def deviations(landmarks: Tensor, mean_face: Tensor) -> Tensor:
    """What is left of landmarks B T 68 2 without the mean face B 68 2 of their clip and its affine
    motion, in shares of the face's size: B T 68 2.
    """
    mean, size = _about_its_middle(mean_face)
    points, basis = landmarks / size, F.pad(mean / size, (0, 1), value=1.0)  # B 1 68 3
    weight = torch.ones_like(points[..., :1])  # B T 68 1
    left = points
    for _ in range(FITS):
        left = points - basis @ _fit(basis, points, weight)
        distance = left.norm(dim=-1, keepdim=True)
        # the median, by sorting: torch's own has no deterministic kernel for a GPU
        usual = distance.sort(2).values[:, :, 34:35].clamp(min=1e-4)
        weight = 1 / (1 + (distance / (1.5 * usual)).square())  # Cauchy's
    return left


def still_landmarks(landmarks: Tensor) -> Tensor:
    """Where landmarks B T 68 2 would lie if the face made no expression: the clip's mean face,
    moved as the head moves.
    """
    mean_face = landmarks.mean(1)
    _, size = _about_its_middle(mean_face)
    return landmarks - deviations(landmarks, mean_face) * size


@torch.no_grad()
def with_still_head(frames: Tensor, landmarks: Tensor) -> Tensor:
    """Frames B T C H W, each moved so that its head stands as in the mean of the clip's frames;
    landmarks B T 68 2 in pixels, whose centres are whole numbers.
    """
    still = still_landmarks(landmarks)
    size = _about_its_middle(landmarks.mean(1))[1]
    mean = F.pad(still.mean(1, keepdim=True) / size, (0, 1), value=1.0)  # B 1 68 3
    motion = _fit(mean, still / size, torch.ones_like(still[..., :1]))  # B T 3 2
    height, width = frames.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=frames.device),
        torch.arange(width, device=frames.device),
        indexing="ij",
    )
    pixels = torch.stack([x, y], -1).flatten(0, 1).float()  # H*W 2
    places = F.pad(pixels / size, (0, 1), value=1.0)  # B 1 H*W 3
    at = (places @ motion * size).unflatten(2, (height, width))  # B T H W 2
    grid = (2 * at + 1) / at.new_tensor([width, height]) - 1
    moved = F.grid_sample(
        frames.flatten(0, 1).float(),
        grid.flatten(0, 1),
        padding_mode="border",
        align_corners=False,
    )
    return moved.view_as(frames)


def _fit(basis: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """The affine motion B T 3 2 that takes points with a one behind, B 1 N 3, nearest to points
    B T N 2, which count by `weight`, B T N 1.
    """
    weighted = (basis * weight).mT  # B T 3 N
    eye = RIDGE * torch.eye(3, device=points.device)
    motion: Tensor = torch.linalg.solve(weighted @ basis + eye, weighted @ points)
    return motion


def _about_its_middle(face: Tensor) -> tuple[Tensor, Tensor]:
    """A face B 68 2 about its middle, B 1 68 2; its size, B 1 1 1."""
    mean = (face - face.mean(1, keepdim=True))[:, None]
    size = mean.square().sum(-1).mean(-1).sqrt().clamp(min=1e-6)[..., None, None]
    return mean, size

"""Signs of collapse in a batch of features: three numbers that say whether a representation
still tells things apart.

features N D ──▶ feature_std, effective_rank, uniformity
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_FEATURES = 2048  # rows looked at: the cost of the singular values stays in milliseconds


@torch.no_grad()
def feature_health(features: Tensor) -> dict[str, float]:
    """Health of features N D of one rank.

    * feature_std: standard deviation of the unit-length features, mean over dimensions, times
      sqrt(D): about 1 when spread over the sphere, 0 when all are equal.
    * effective_rank: exponential of the entropy of the centred features' normalised singular
      values, 1 to min(N - 1, D); RankMe of Garrido et al. (ICML 2023), which does not centre:
      we do, since a large common mean would hide that the rest has collapsed.
    * uniformity: log of the mean of exp(-2 |u - v|^2) over pairs of unit-length features (Wang
      and Isola, ICML 2020); 0 when all equal.
    """
    features = features[:MAX_FEATURES].float()
    if len(features) < 2 or not bool(torch.isfinite(features).all()):
        return {}
    unit = F.normalize(features, dim=-1)
    pairs = torch.pdist(unit).square()
    singular = torch.linalg.svdvals(unit - unit.mean(0))
    # Rounding leaves singular values of 1e-7 where features are all equal: below that is
    # nothing to take the entropy of.
    share = singular / singular.sum() if float(singular.sum()) > 1e-4 else None
    rank = 1.0 if share is None else math.exp(float(-(share * (share + 1e-12).log()).sum()))
    return {
        "feature_std": float(unit.std(0).mean() * unit.shape[1] ** 0.5),
        "effective_rank": rank,
        "uniformity": float((-2 * pairs).exp().mean().log()),
    }

"""Identity adversary: a head that names the person, and a backbone that is trained to make it
fail.

    features ──▶ gradient reversal (times -strength) ──▶ linear head ──▶ cross-entropy of the identity

After the identity adversarial training of FMAE-IAT (Ning et al., 2024). Fact of the authors'
code: gradient reversal (Ganin and Lempitsky, ICML 2015) on one linear layer over the pooled
feature, strength 2 on BP4D, 1 on BP4D+, 0.5 on DISFA. Our decisions: the strength grows
linearly over the first `warmup_steps`; identities are hashes, put into `buckets` classes by
their remainder, so that no list of identities is needed (one of n identities shares its class
with another with a probability of about n / buckets).
"""

import torch
from torch import Tensor, nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import BatchView, Loss, Objective, in_float32
from ausl_dist.objectives.layers import cross_entropy_of_rows, feed


class IdentityAdversary(Objective):
    """Cross-entropy of the identity for its head, the same with the opposite sign, times
    `strength`, for the backbone.
    """

    adversarial = True

    def __init__(
        self,
        *,
        feature_dim: int,
        strength: float = 1.0,
        warmup_steps: int = 1000,
        buckets: int = 4096,
        frames: int = 1,
        stride: int = 5,
        view: View = PLAIN,
    ) -> None:
        super().__init__()
        if strength <= 0 or warmup_steps < 1 or buckets < 2 or frames < 1 or stride < 1:
            raise ValueError(
                "identity_adversary: need strength > 0, warmup_steps >= 1, buckets >= 2, "
                "frames >= 1 and stride >= 1"
            )
        self.strength, self.warmup_steps, self.buckets, self.view = (
            strength,
            warmup_steps,
            buckets,
            view,
        )
        self.offsets = tuple(range(0, frames * stride, stride))
        self.head = nn.Linear(feature_dim, buckets)

    def needs(self) -> Needs:
        return Needs(views={self.view: self.offsets}, identity=True)

    def forward(self, batch: BatchView) -> Loss:
        strength = self._strength(batch)
        features = reverse_gradient(batch.pooled(self.view, self.offsets), strength)  # B T D
        target = (batch.identity % self.buckets)[:, None].expand(-1, len(self.offsets))  # B T
        with in_float32(features):
            logits = feed(self.head, features).float()  # B T classes
            loss = cross_entropy_of_rows(logits, target).mean(1)
        found = (logits.argmax(-1) == target).float().mean(1)
        return Loss(batch.mean(loss), {"accuracy": batch.mean(found), "strength": strength})

    # Not traced: a number that changes from step to step would be compiled anew each time.
    @torch.compiler.disable
    def _strength(self, batch: BatchView) -> Tensor:
        # A head that knows nothing yet is fooled best by features that explode: it gets time to
        # learn first.
        share = min((batch.step + 1) / self.warmup_steps, 1.0)
        return batch.weight.new_full((), self.strength * share)


def reverse_gradient(features: Tensor, strength: Tensor | float) -> Tensor:
    """The features themselves; their gradient comes back times -`strength`."""
    fixed = features.detach()
    return fixed - strength * (features - fixed)

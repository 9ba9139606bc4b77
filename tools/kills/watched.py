"""The objective of a kill trial: it tells which clips a step saw, and what they looked like."""

import zlib

import torch

from ausl_dist.objectives.base import BatchView, Loss
from ausl_dist.objectives.temporal_ranking import TemporalRanking
from ausl_dist.randomness import stable_hash

FINGERPRINT = 1 << 20  # of clips: exact in a float32, and in its mean over ranks


class WatchedRanking(TemporalRanking):
    """Temporal ranking that logs which clips it saw, and their pixels, as numbers."""

    def forward(self, batch: BatchView) -> Loss:
        loss = super().forward(batch)
        frames = [batch.pixels(view, offsets) for view, offsets in self.roles]
        pixels = b"".join(each.cpu().numpy().tobytes() for each in frames)
        marks = {
            "clips": stable_hash(*batch.keys) % FINGERPRINT,
            "pixels": zlib.crc32(pixels) % FINGERPRINT,
        }
        loss.logs |= {name: torch.tensor(float(mark)) for name, mark in marks.items()}
        return loss

"""Gradient accumulation: a rank's batch in equal parts, one after the other, for one step."""

from ausl_dist.batch import Batch


def split(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into `parts` equal runs of clips."""
    if len(batch) % parts:
        raise ValueError(
            f"gradient_accumulation={parts} does not divide the {len(batch)} clips of one rank: "
            "change engine.gradient_accumulation, data.lanes or data.clips_per_lane"
        )
    size = len(batch) // parts
    return (
        [batch] if parts == 1 else [batch.cut(i * size, (i + 1) * size) for i in range(parts)]
    )

"""Labelled drawn faces by subject, for trees of the data sets' formats."""

from ausl_dist.evaluate.datasets.examples import LabelledFaces
from tests.support.corpora import ACTION_UNITS, draw_clip


def drawn_faces(
    subjects: list[str], *, frames: int = 12, size: int = 64
) -> dict[str, LabelledFaces]:
    """One clip per subject, each of another identity."""
    clips = [draw_clip(4 * number, frames=frames, size=size) for number in range(len(subjects))]
    return {
        name: LabelledFaces(clip.frames, clip.action_units, ACTION_UNITS)
        for name, clip in zip(subjects, clips, strict=True)
    }

"""The card's picture: how the weights came to be what they are, as one curve.

online.jsonl ──▶ score of the probe by checkpoint ──┐
metrics.jsonl ──▶ loss by step ──────where no probe─┴─▶ training.svg
"""

from dataclasses import dataclass
from pathlib import Path

from ausl_dist.observe.history import read_metrics
from ausl_dist.pages.charts import Series, image
from ausl_dist.run_folder import main_scores

PICTURE_NAME = "training.svg"
MAX_POINTS = 200
MIN_POINTS = 2  # of fewer there is no curve


@dataclass(frozen=True)
class TrainingPicture:
    """An SVG file, and what it shows in words."""

    svg: str
    caption: str


def draw_training(run_folder: Path, step: int) -> TrainingPicture | None:
    """The curve up to the released checkpoint at `step`; None where the run has left none."""
    name, scores = main_scores(run_folder)
    points = sorted((at, score) for at, score in scores.items() if at <= step)
    caption, x_label = f"{name} of the online probe by checkpoint", "step of the checkpoint"
    if len(points) < MIN_POINTS:
        lines = read_metrics(run_folder, MAX_POINTS, before_step=step)
        points = [(line["step"], line["loss"]) for line in lines if line["loss"] is not None]
        caption, x_label = "Training loss by step", "step"
    if len(points) < MIN_POINTS:
        return None
    curve = Series("", [x for x, _ in points], [y for _, y in points])
    return TrainingPicture(image(curve, label=caption, x_label=x_label), caption)

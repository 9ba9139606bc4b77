"""How much of what an objective must predict depends on the expression: shares of its target's
variance, in the rendered world.

    python -m tools.bench_targets [--identities 80 --clips 4]

Each share is what a linear fit explains of the targets of people it was not fitted to (ridge,
four folds); about nothing may come out a little below 0. An objective whose target hardly
depends on action units learns them late, however well it learns its target.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ausl_dist import command
from ausl_dist.objectives.head_motion import STILL, head_motion_removed
from ausl_dist.objectives.regions import (
    BP4D_UNITS,
    PLACE_OF_UNIT,
    centres,
    corners,
    cut,
    places_of,
)
from ausl_dist.objectives.single_image_flow import face_box
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.world.head import BuiltinHead
from ausl_dist.world.render import RenderedClip, World

Array = NDArray[np.float64]

SIZE = 64  # pixels of a frame
MARGIN = 12  # of them left out on each side of the face
REGION = (
    0.17 * 0.61
)  # of the frame's side, as roi_inpainting cuts them from a view of 0.61 of it
TIMES, GAPS = (0, 9, 18, 27), (6, 18)  # frames
FOLDS, RIDGE = 4, 0.05


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--identities", type=int, default=80, help="people (default 80)")
    parser.add_argument("--clips", type=int, default=4, help="of each (default 4)")
    arguments = parser.parse_args()
    world = World(BuiltinHead(), size=SIZE, seed=1)
    clips = [
        (identity, world.clip(identity, number))
        for identity in range(arguments.identities)
        for number in range(arguments.clips)
    ]
    people = np.repeat([identity for identity, _ in clips], len(TIMES))
    units = np.concatenate([clip.intensities[list(TIMES)] for _, clip in clips]).astype(
        np.float64
    )
    print(
        "| true flow of a face | head turning | action units' change | action units in the first "
        "frame |\n|---|---|---|---|"
    )
    for gap in GAPS:
        flows = [_flows(clip, gap) for _, clip in clips]
        later = np.concatenate(
            [clip.intensities[[t + gap for t in TIMES]] for _, clip in clips]
        )
        turning = np.concatenate([_turning(clip, gap) for _, clip in clips])
        for column, name in enumerate(("shift taken off", "head's motion taken off")):
            target = np.concatenate([flow[column] for flow in flows])
            shares = [
                explained(known, target, people) for known in (turning, later - units, units)
            ]
            print(
                f"| over {gap} frames, {name} | {' | '.join(f'{share:.2f}' for share in shares)} |"
            )
    print(
        "\n| pixels | the clip | action units, of the rest | action units, "
        "of all |\n|---|---|---|---|"
    )
    pictures = [_pictures(clip) for _, clip in clips]
    for column, name in enumerate(("regions of action units", "the face")):
        rows = np.concatenate([picture[column] for picture in pictures])
        rest, units_rest = _without_clip_mean(rows), _without_clip_mean(units)
        between = 1 - (rest**2).sum() / ((rows - rows.mean(0)) ** 2).sum()
        within = explained(units_rest, rest, people)
        print(f"| {name} | {between:.3f} | {within:.3f} | {(1 - between) * within:.4f} |")
    print(
        "\nAn action unit from those at other places of the face: "
        f"{_from_other_places(world, units, people):.2f} (mean over units)"
    )
    return 0


def explained(known: Array, target: Array, people: NDArray[np.int64]) -> float:
    """Share of the variance of targets N D that a ridge regression on N K explains in people it
    has not seen.
    """
    names, error = np.unique(people), np.zeros_like(target)
    for fold in range(FOLDS):
        test = np.isin(people, names[fold::FOLDS])
        mean, spread = known[~test].mean(0), known[~test].std(0) + 1e-6
        x, y = (known - mean) / spread, target - target[~test].mean(0)
        weights = np.linalg.solve(
            x[~test].T @ x[~test] / (~test).sum() + RIDGE * np.eye(x.shape[1]),
            x[~test].T @ y[~test] / (~test).sum(),
        )
        error[test] = y[test] - x[test] @ weights
    return float(1 - (error**2).sum() / ((target - target.mean(0)) ** 2).sum())


def _flows(clip: RenderedClip, gap: int) -> tuple[Array, Array]:
    """The flow inside the face on 8 x 8 cells: with its mean at still points taken off, and
    with the head's motion taken off.
    """
    landmarks = torch.from_numpy(clip.landmarks[list(TIMES)])
    # T 2 H W
    flow = torch.from_numpy(
        np.stack([clip.flow(t, gap).motion.transpose(2, 0, 1) for t in TIMES])
    )
    face = face_box(landmarks, flow.shape[-2:])[:, None]
    at = landmarks[:, STILL].round().long().clamp(0, SIZE - 1)
    shift = torch.stack(
        [flow[t][:, at[t, :, 1], at[t, :, 0]].mean(1) for t in range(len(TIMES))]
    )[..., None, None]
    kinds = (flow - shift, head_motion_removed(flow, landmarks))
    first, second = (
        F.adaptive_avg_pool2d(kind * face, 8).flatten(1).double().numpy() for kind in kinds
    )
    return first, second


def _turning(clip: RenderedClip, gap: int) -> Array:
    """How the head turns, and from which pose: T 15."""
    start = clip.motion.angles[list(TIMES)].astype(np.float64)
    change = clip.motion.angles[[t + gap for t in TIMES]] - start
    products = (change[:, :, None] * start[:, None]).reshape(len(TIMES), -1)
    return np.concatenate([change, start, products], 1)


def _pictures(clip: RenderedClip) -> tuple[Array, Array]:
    """Normalised pixels of the regions of action units, and of the face on 20 x 20 cells."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    frames = (
        torch.from_numpy(np.stack([clip.frame(t) for t in TIMES])).permute(0, 3, 1, 2) / 255
        - mean
    ) / std
    landmarks, places, side = (
        torch.from_numpy(clip.landmarks[list(TIMES)]),
        places_of(BP4D_UNITS),
        round(REGION * SIZE),
    )
    boxes = corners(centres(landmarks, places), side, (SIZE, SIZE)).flatten(1, 2)
    face = F.adaptive_avg_pool2d(frames[..., MARGIN:-MARGIN, MARGIN:-MARGIN], 20)
    return cut(frames, boxes, side).flatten(1).double().numpy(), face.flatten(
        1
    ).double().numpy()


def _without_clip_mean(rows: Array) -> Array:
    clips = rows.reshape(-1, len(TIMES), rows.shape[1])
    return (clips - clips.mean(1, keepdims=True)).reshape(rows.shape)


def _from_other_places(world: World, units: Array, people: NDArray[np.int64]) -> float:
    numbers: Sequence[int] = world.head.action_units
    place = [PLACE_OF_UNIT.get(number, number) for number in numbers]
    others = [
        [j for j in range(len(numbers)) if place[j] != place[i]] for i in range(len(numbers))
    ]
    return float(
        np.mean(
            [
                explained(units[:, others[i]], units[:, [i]], people)
                for i in range(len(numbers))
                if units[:, i].any()
            ]
        )
    )


if __name__ == "__main__":
    command.run(main)

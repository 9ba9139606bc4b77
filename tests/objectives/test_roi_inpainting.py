"""Regions and inpainting: boxes lie where the rules say, mirror with the face, and what is
removed is what must be painted.
"""

import pytest
import torch

from ausl_dist.faces.landmarks import MIRROR
from ausl_dist.objectives.base import BatchView
from ausl_dist.objectives.clip_mean import still_landmarks
from ausl_dist.objectives.region_tokens import bin_weights
from ausl_dist.objectives.regions import (
    BP4D_UNITS,
    DISFA_UNITS,
    PLACE_OF_UNIT,
    centres,
    corners,
    cut,
    inside,
    places_of,
)
from ausl_dist.objectives.roi_inpainting import PATCH, RoiInpainting, patches_between_pixels
from tests.support.tiny import make_batch, make_model

SIZE = 96


def face() -> torch.Tensor:
    return torch.rand(68, 2, generator=torch.Generator().manual_seed(1)) * 60 + 18


def test_units_that_share_a_place_make_one_region() -> None:
    assert len(places_of(BP4D_UNITS)) == 9
    assert len(places_of(DISFA_UNITS)) == 8
    with pytest.raises(ValueError, match=r"AU \[3\]"):
        places_of([1, 3])


def test_centres_follow_the_rule_table() -> None:
    points = face()
    points[39], points[42] = torch.tensor([40.0, 40.0]), torch.tensor([52.0, 41.0])  # ruler 12
    at = {unit: centres(points, (place,))[0] for unit, place in PLACE_OF_UNIT.items()}
    torch.testing.assert_close(at[1], points[[21, 22]] - torch.tensor([0.0, 6.0]))
    torch.testing.assert_close(at[4], points[[19, 24]] + torch.tensor([0.0, 4.0]))
    torch.testing.assert_close(at[6], points[[41, 46]] + torch.tensor([0.0, 12.0]))
    torch.testing.assert_close(at[12], points[[48, 54]])
    torch.testing.assert_close(at[17], points[[56, 58]] + torch.tensor([0.0, 6.0]))


def test_the_regions_of_a_mirrored_face_are_the_mirrored_regions() -> None:
    points, side = face() + 0.013, 16
    mirrored = points[torch.from_numpy(MIRROR)].clone()
    mirrored[:, 0] = SIZE - 1 - mirrored[:, 0]
    places = places_of(BP4D_UNITS)
    masks = [
        inside(corners(centres(p, places), side, (SIZE, SIZE)), side, (SIZE, SIZE)).any(1)
        for p in (points, mirrored)
    ]
    assert torch.equal(masks[1], masks[0].flip(-1))


def test_boxes_stay_inside_the_image_and_cover_their_pixels() -> None:
    where = torch.tensor([[[-5.0, 3.0], [95.0, 200.0], [40.0, 40.0]]])
    corner = corners(where, 11, (SIZE, SIZE))
    masks = inside(corner, 11, (SIZE, SIZE))
    assert masks.sum((-1, -2)).tolist() == [[121, 121, 121]]
    image = torch.arange(SIZE * SIZE).float().view(1, 1, SIZE, SIZE)
    for region in range(3):
        assert torch.equal(
            cut(image, corner, 11)[0, region].flatten(), image[0, 0][masks[0, region]]
        )


def test_removed_pixels_are_exactly_what_must_be_painted() -> None:
    """The decoder's targets change with the pixels that the backbone did not see, and with no
    others.
    """
    model = make_model(
        roi={"_target_": "ausl_dist.objectives.roi_inpainting.RoiInpainting", "region": 1 / 3}
    )
    objective = model.objectives["roi"]
    assert isinstance(objective, RoiInpainting)
    batch = make_batch(model.plan, 2, image_size=3 * PATCH)
    shown: list[torch.Tensor] = []

    def encode(frames: torch.Tensor, visible: torch.Tensor | None = None) -> object:
        shown.append(frames)
        return model.encode(frames, visible)

    def run(pixels: torch.Tensor) -> float:
        batch.frames[objective.view] = pixels
        return float(objective(BatchView(batch, model.plan.views, encode, None)).value.detach())  # type: ignore[arg-type]

    original = batch.frames[objective.view]
    loss = run(original)
    hole = (shown[0] == 0).all(2, keepdim=True)  # B T 1 H W
    assert 0.05 < float(hole.float().mean()) < 0.5
    assert run(original + 100 * hole) > loss + 10  # hidden: only the target sees it
    assert torch.equal(shown[1], shown[0])
    objective.decode.requires_grad_(False)
    outside = run(torch.where(hole, original, 0.0))
    assert abs(outside - loss) < 1  # seen: only the painting changes


def test_both_sides_of_a_place_are_removed_and_at_most_so_many() -> None:
    model = make_model(
        roi={"_target_": "ausl_dist.objectives.roi_inpainting.RoiInpainting", "max_removed": 2}
    )
    objective = model.objectives["roi"]
    assert isinstance(objective, RoiInpainting)
    batch = make_batch(model.plan, 64)
    places, removed = objective._choose(BatchView(batch, model.plan.views, model.encode, None))
    assert places.shape == (64, 1, 2)
    assert bool(removed[..., 0].all())
    assert 0.3 < float(removed[..., 1].float().mean()) < 0.7
    assert len(places.unique()) == 9


def test_frames_without_landmarks_are_left_out() -> None:
    model = make_model(roi={"_target_": "ausl_dist.objectives.roi_inpainting.RoiInpainting"})
    batch = make_batch(model.plan, 2)
    for points in batch.landmarks.values():
        points[0] = torch.nan
    output = model(batch)
    output.loss.backward()
    assert bool(torch.isfinite(output.loss.detach()))
    assert float(output.logs["roi/usable"]) == 0.5


def test_regions_are_read_as_a_grid_of_samples_would_read_them() -> None:
    """Bilinear samples, six along each side, averaged in three bins; beyond the map its edge
    counts.
    """
    maps = torch.randn(2, 5, 7, 9)
    x, y = torch.rand(2, 4, 6) * 1.2 - 0.1, torch.rand(2, 4, 6) * 1.2 - 0.1  # N R points
    columns, rows = bin_weights(x, 9), bin_weights(y, 7)
    ours = torch.einsum("nryh,ndhw,nrxw->nrdyx", rows, maps, columns)
    grid = torch.stack(torch.broadcast_tensors(x[:, :, None], y[..., None]), -1).flatten(1, 2)
    read = torch.nn.functional.grid_sample(
        maps, 2 * grid - 1, padding_mode="border", align_corners=False
    )
    theirs = torch.nn.functional.avg_pool2d(read, 2).unflatten(2, (4, 3)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_still_face_under_a_moving_head_leaves_nothing_to_paint() -> None:
    picture = torch.nn.functional.interpolate(
        torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)), size=SIZE + 8
    )
    frames = torch.stack([picture[0, :, 4:-4, shift : SIZE + shift] for shift in (0, 3, 8)])
    points = torch.stack([face() - torch.tensor([shift, 0.0]) for shift in (0.0, 3.0, 8.0)])
    still = still_landmarks(points[None])  # 1 T 68 2
    middles = centres(still, places_of([1, 12]))  # 1 T 2 2 2
    patches = patches_between_pixels(frames[None], middles, 16, 32)
    assert (patches - patches.mean(1, keepdim=True)).abs().max() < 0.02


def test_a_deviation_is_painted_of_all_regions_in_their_own_spread() -> None:
    with pytest.raises(ValueError, match="frames >= 2"):
        RoiInpainting(feature_dim=8, target="deviation")
    model = make_model(
        roi={
            "_target_": "ausl_dist.objectives.roi_inpainting.RoiInpainting",
            "target": "deviation",
            "reads": "pooled",
            "frames": 3,
        }
    )
    objective = model.objectives["roi"]
    assert isinstance(objective, RoiInpainting)
    assert objective.usual is not None
    batch = make_batch(model.plan, 3)
    for points in batch.landmarks.values():
        points[2] = torch.nan
    loss = model(batch).loss
    model.after_step(True)
    assert (objective.usual.mean > 0).all(), "removed or seen, all are painted"
    model.after_step(False)
    without = model(batch.cut(0, 2)).loss
    assert torch.isfinite(loss)
    assert float(without.detach()) == pytest.approx(float(model(batch).loss.detach()), rel=1e-4)

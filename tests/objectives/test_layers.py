"""Layers that several heads share: what replaces an operation of torch's gives the same
numbers.
"""

import pytest
import torch
import torch.nn.functional as F

from ausl_dist.objectives.layers import cross_entropy_of_rows, resized


@pytest.mark.parametrize("size", [(32, 32), (9, 20), (16, 16)])
def test_images_are_resized_as_torch_would(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, 16, 16)
    theirs = F.interpolate(images, size, mode="bilinear", antialias=True)
    torch.testing.assert_close(resized(images, size), theirs, atol=1e-5, rtol=1e-5)


def test_cross_entropy_of_rows_is_that_of_an_image_of_classes() -> None:
    logits, target = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    theirs = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
    torch.testing.assert_close(cross_entropy_of_rows(logits, target), theirs)

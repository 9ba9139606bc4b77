"""Measured motion: the true one, mirrored as the picture is, and measured by the loader's
threads.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ausl_dist.batch import Needs, View
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.motion import measured_flow
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tests.support.corpora import make_corpus

SIZE = 96


def moved_picture(x: int, y: int) -> list[np.ndarray]:
    """Two frames of a picture that moves by (x, y) pixels."""
    coarse = np.random.default_rng(0).uniform(20, 235, (40, 40, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (160, 160), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    places = ((32 - j, 32 - i) for i, j in ((0, 0), (x, y)))
    return [
        picture[top : top + SIZE, left : left + SIZE].astype(np.uint8) for top, left in places
    ]


def inside(flow: np.ndarray) -> np.ndarray:
    return flow[:, 16:-16, 16:-16]


def test_a_translation_is_recovered() -> None:
    flow = inside(measured_flow(*moved_picture(3, -2)))
    assert np.allclose(np.median(flow, axis=(1, 2)), (3.0, -2.0), atol=0.1)


def test_no_motion_is_zero() -> None:
    assert np.abs(measured_flow(*moved_picture(0, 0))).max() < 1e-3


def test_a_mirrored_pair_gives_the_mirrored_field_with_u_negated() -> None:
    pair = moved_picture(3, -2)
    flow = measured_flow(*pair)
    mirrored = measured_flow(*(np.ascontiguousarray(picture[:, ::-1]) for picture in pair))
    back = mirrored[..., ::-1] * np.array([-1.0, 1.0])[:, None, None]
    assert np.median(np.abs(inside(back - flow))) < 0.05


def test_the_loader_measures_it_in_the_view_that_asks(tmp_path: Path) -> None:
    asking, other = View(flip=0.5), View(draw=1)
    needs = [
        Needs({asking: (0, 4)}, flow_gap=4, flow_measured=(asking,)),
        Needs({asking: (0, 1, 2), other: (0, 4)}),
    ]
    corpus = make_corpus(tmp_path / "corpus", clips=4, frames=12, size=64)
    settings = DataSettings(
        corpora={"main": CorpusSource(str(corpus))}, image_size=48, lanes=2, clips_per_lane=1
    )
    plan = Needs.union(needs)
    options = {"seed": 0, "rank": 0, "world_size": 1, "run_folder": tmp_path}
    with Loader(settings, plan, **options) as loader:  # type: ignore[arg-type]
        batch = next(loader)
    assert list(batch.flow) == [asking]
    flow = batch.flow[asking]
    assert flow.shape == (2, 1, 2, 48, 48)
    assert torch.isfinite(flow).all()
    with pytest.raises(ValueError, match="decoder=pyav"):
        Loader(  # type: ignore[arg-type]
            DataSettings(corpora=settings.corpora, decoder="dali"), plan, **options
        )


def test_stored_and_measured_motion_in_one_run_are_refused() -> None:
    view = View()
    stored, measured = (
        Needs({view: (0,)}, flow_gap=4),
        Needs({view: (0, 4)}, flow_gap=4, flow_measured=(view,)),
    )
    with pytest.raises(ValueError, match="same source"):
        Needs.union([stored, measured])

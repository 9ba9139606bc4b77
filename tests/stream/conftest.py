"""A loader over a small corpus, with whatever settings a test wants."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ausl_dist.batch import Needs
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tests.support.corpora import ACTION_UNITS, make_corpus
from tests.support.loading import LANES, PLAN


@pytest.fixture(scope="module")
def loader_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(
        tmp_path_factory.mktemp("corpus"), clips=22, frames=12, size=64, action_units=True
    )


@pytest.fixture
def open_loader(loader_corpus: Path, tmp_path: Path) -> Callable[..., Loader]:
    def make(
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        plan: Needs = PLAN,
        **changes: object,
    ) -> Loader:
        values: dict[str, object] = {
            "corpora": {"main": CorpusSource(str(loader_corpus))},
            "image_size": 32,
            "lanes": LANES,
            "clips_per_lane": 2,
            "shuffle_window": 8,
            "action_units": ACTION_UNITS,
            **changes,
        }
        settings = DataSettings(**values)  # type: ignore[arg-type]
        return Loader(
            settings,
            plan,
            seed=7,
            rank=rank,
            world_size=world_size,
            run_folder=tmp_path,
            start_step=start_step,
        )

    return make

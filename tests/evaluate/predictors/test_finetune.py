"""Fine-tuning: early layers move less than late ones, it learns what pictures show, and a leak
through pictures is caught.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.evaluate.compare import CompareSettings, compare
from ausl_dist.evaluate.features.table import FeatureTable, extract
from ausl_dist.evaluate.folds.sealed import LeakError, hold_out
from ausl_dist.evaluate.predictors.finetune import (
    FinetuneSettings,
    _Tuned,
    fit_finetune,
    parameter_groups,
)
from ausl_dist.evaluate.predictors.networks import keep_labels
from ausl_dist.evaluate.predictors.pictures import PictureStore, PictureWriter
from ausl_dist.evaluate.scores.formulas import RegressionSums
from ausl_dist.model.backbones import Backbone, BackboneSettings, build_backbone
from ausl_dist.stream.scan import scan
from tests.support.corpora import make_corpus
from tests.support.evaluation_tables import make_table

FAST = FinetuneSettings(max_epochs=4, batch_frames=32, learning_rate=3e-3, folds=2)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build_backbone(BackboneSettings("test_resnet", 32)).eval()


@pytest.fixture(scope="module")
def stored(
    backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FeatureTable, PictureStore, str]:
    folder = tmp_path_factory.mktemp("pictures")
    url = str(make_corpus(folder, clips=12, frames=8, size=48, action_units=True))
    writer = PictureWriter(folder / "pictures.bin")
    table = extract({"a": backbone}, writer.passing(scan(url, image_size=32)))["a"]
    return table, writer.close(), url


def test_pictures_on_disk_are_those_of_the_rows_that_ask(
    stored: tuple[FeatureTable, PictureStore, str],
) -> None:
    table, pictures, url = stored
    frames = torch.cat([clip.frames for clip in scan(url, image_size=32)])
    rows = np.array([[3, 40], [95, 12]])
    read = pictures.read(pictures.positions(table.take(np.arange(len(table))))[rows])
    assert read.shape == (2, 2, 3, 32, 32)
    # half a byte, in units of the spread
    torch.testing.assert_close(read, frames[rows], atol=0.5 / 255 / 0.22, rtol=0)


@pytest.mark.parametrize("name", ["resnet10t", "test_vit"])
def test_each_layer_learns_more_slowly_than_the_one_above(name: str) -> None:
    model = _Tuned(build_backbone(BackboneSettings(name, 32)), 3, FAST)
    rates = {
        id(parameter): group["lr"]
        for group in parameter_groups(model, FAST)
        for parameter in group["params"]
    }
    assert set(rates) == {id(parameter) for parameter in model.parameters()}
    by_name = {key: rates[id(parameter)] for key, parameter in model.named_parameters()}
    early = by_name[
        "backbone.net.blocks.0.attn.qkv.weight"
        if "vit" in name
        else "backbone.net.layer1.0.conv1.weight"
    ]
    late = by_name[
        "backbone.net.blocks.5.attn.qkv.weight"
        if "vit" in name
        else "backbone.net.layer4.0.conv1.weight"
    ]
    first = by_name[
        "backbone.net.patch_embed.proj.weight"
        if "vit" in name
        else "backbone.net.conv1.0.weight"
    ]
    assert first < early < late < by_name["head.weight"] == FAST.learning_rate
    assert all(
        group["weight_decay"] == 0
        for group in parameter_groups(model, FAST)[:-1]
        for p in group["params"]
        if p.ndim == 1
    )


def striped() -> tuple[FeatureTable, PictureStore]:
    """Pictures whose upper and lower stripe are as bright as the two labels say, on each
    subject's own grey; features say nothing.
    """
    table = make_table(subjects=4, frames=24, signal=False)
    pixels = np.empty((len(table), 3, 32, 32), np.uint8)
    pixels[:] = (60 + 20 * table.subject)[:, None, None, None]
    for column, stripe in enumerate((slice(4, 12), slice(20, 28))):
        pixels[:, :, stripe] = (50 * table.labels[:, column])[:, None, None, None]
    places = {name: (24 * index, np.arange(24)) for index, name in enumerate(table.clips)}
    return table, PictureStore(pixels, places)


@pytest.mark.parametrize("window", [1, 4])
def test_fine_tuning_learns_what_pictures_show_of_people_it_has_not_seen(
    window: int, backbone: Backbone
) -> None:
    table, pictures = striped()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    train, sealed = hold_out(table, table.subjects[:1])
    settings = replace(FAST, window=window, max_epochs=12, batch_frames=16, hidden=32)
    tuned = fit_finetune(
        keep_labels(train, 0.7, 0) if window > 1 else train,
        "intensity",
        backbone,
        pictures,
        settings,
    )
    test = sealed.open(tuned.decided)
    assert RegressionSums.of(tuned.predict(test), test.labels).icc().mean() > 0.5
    # a copy was tuned
    assert all(
        torch.equal(value, before[name]) for name, value in backbone.state_dict().items()
    )


def test_the_same_seed_gives_the_same_predictions(
    stored: tuple[FeatureTable, PictureStore, str], backbone: Backbone
) -> None:
    table, pictures, _ = stored
    settings = replace(FAST, max_epochs=1)
    one, two = (
        fit_finetune(table, "intensity", backbone, pictures, settings).predict(table)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)


def test_a_fine_tuned_network_that_saw_a_test_frame_may_not_read_the_test(
    stored: tuple[FeatureTable, PictureStore, str], backbone: Backbone
) -> None:
    table, pictures, _ = stored
    train, sealed = hold_out(table, table.subjects[:1])
    stolen = table.of_subjects(table.subjects[:1]).take(np.array([0]))
    poisoned = replace(
        train, fingerprint=np.concatenate([train.fingerprint[:-1], stolen.fingerprint])
    )
    tuned = fit_finetune(poisoned, "intensity", backbone, pictures, replace(FAST, max_epochs=1))
    with pytest.raises(LeakError, match="1 test images"):
        sealed.open(tuned.decided)


def test_rows_can_be_fitted_each_in_its_own_way(
    stored: tuple[FeatureTable, PictureStore, str], backbone: Backbone, tmp_path: Path
) -> None:
    table, pictures, _ = stored
    settings = replace(FAST, max_epochs=1)
    fits = {
        name: lambda t, task: fit_finetune(t, task, backbone, pictures, settings)
        for name in ("a", "b")
    }
    result = compare({"a": table, "b": table}, CompareSettings(resamples=0), fit=fits)
    assert [row.name for row in result.rows] == ["a", "b", "constant", "guess"]
    assert result.gains["b"].mean == 0


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="layer_decay"):
        FinetuneSettings(layer_decay=1.5)
    with pytest.raises(ValueError, match="at least 1"):
        FinetuneSettings(window=0)

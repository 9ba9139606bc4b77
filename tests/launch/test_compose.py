"""From words to a config: every setting can be typed, and a misspelt one is answered."""

from pathlib import Path

import pytest

from ausl_dist.settings import from_mapping
from ausl_dist.train.settings import RunSettings
from launch.compose import Composed, add_or_replace, compose, compose_cluster

BASE = ["name=mine", "steps=10", "data.corpora.main.url=s3://bucket/corpus"]


def setting(composed: Composed, name: str) -> object:
    value: object = composed.run
    for part in name.split("."):
        assert isinstance(value, dict)
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("data.shuffle_window=4", 4),
        ("rewind.max_times=1", 1),
        ("watch.step_timeout_seconds=9", 9),
        ("mixture.temporal_contrast=1", 1),
        ("+mixture.temporal_contrast=1", 1),
        ("++seed=3", 3),
        ("+seed=3", 3),
        ("checkpoint.upload=s3://bucket/run", "s3://bucket/run"),
        ("data.budgets.decode=0.5", 0.5),
        ("data.corpora.second.url=/second", "/second"),
        ("objectives.temporal_ranking.n_far=5", 5),
        ("objectives.temporal_ranking.view.flip=0.5", 0.5),
        ("mixture_final.temporal_ranking=0.1", 0.1),
    ],
)
def test_any_setting_is_added_or_replaced(word: str, value: object) -> None:
    composed = compose([*BASE, word])
    assert setting(composed, word.lstrip("+").partition("=")[0]) == value
    from_mapping(RunSettings, composed.run)


def test_a_part_of_a_view_keeps_the_rest_of_that_views_default() -> None:
    words = ["mixture=clp", "objectives.temporal_contrast.view.flip=0.0"]
    view = setting(compose([*BASE, *words]), "objectives.temporal_contrast.view")
    assert isinstance(view, dict)
    assert (view["flip"], view["blur"], view["crop"]) == (0.0, 0.5, [0.7, 0.875])


def test_an_objective_that_the_experiment_tunes_is_taken_out_of_the_mixture() -> None:
    composed = compose(["experiment=demo", *BASE, "~mixture.landmark_deviation"])
    assert list(composed.run["mixture"]) == ["temporal_contrast"]
    assert list(composed.run["objectives"]) == ["temporal_contrast"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer.lerning_rate=1e-3", r"did you mean optimizer\.learning_rate"),
        ("sead=3", "did you mean seed"),
        ("data.budgets.decod=1", r"did you mean data\.budgets\.decode"),
        ("mixture.temporal_contrst=1", r"did you mean mixture\.temporal_contrast"),
        ("objectives.temporal_rankin.n_far=5", r"did you mean objectives\.temporal_ranking"),
        (
            "objectives.temporal_ranking.n_fat=5",
            r"did you mean objectives\.temporal_ranking\.n_far",
        ),
        ("objectives.temporal_ranking.view.flp=1", r"did you mean .*\.view\.flip"),
        ("objectives.roi_inpainting.width=64", r"type mixture\.roi_inpainting=1\.0 as well"),
        ("objectives.temporal_ranking.crop=sideways", "must be one of per_frame, per_clip"),
        ("objectives.temporal_ranking.n_far=many", "must be a whole number"),
        ("backbone=resnet81", "did you mean backbone=resnet18"),
        ("cluster.rank=2", r"did you mean cluster\.ranks"),
        (f"seed=1{400 * '0'}", "seed is a number of"),
        (f"optimizer.learning_rate=1{400 * '0'}", "learning_rate"),
        ("steps=[", "cannot be composed"),
    ],
)
def test_what_is_misspelt_is_refused_with_what_to_type(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compose([*BASE, word])


def test_what_must_be_set_is_named_as_one_types_it() -> None:
    with pytest.raises(ValueError, match=r"type data\.corpora\.main\.url=VALUE"):
        compose(["experiment=demo"])


def test_the_whole_config_is_there_with_every_default() -> None:
    composed = compose(BASE)
    assert setting(composed, "rewind.spike_steps") == 5
    assert setting(composed, "objectives.temporal_ranking.embedding_dim") == 256
    assert setting(composed, "objectives.temporal_ranking.view.flip") == 0.0
    assert setting(composed, "backbone.image_size") == setting(composed, "data.image_size")
    assert compose_cluster("cluster=slurm")["signal_delay_seconds"] == 180


def test_a_groups_choice_stays_a_choice(tmp_path: Path) -> None:
    assert add_or_replace("backbone=resnet18") == "backbone=resnet18"
    assert add_or_replace("experiment=demo") == "+experiment=demo"
    assert add_or_replace("~mixture.temporal_ranking") == "~mixture.temporal_ranking"

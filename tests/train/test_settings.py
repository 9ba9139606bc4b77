"""Settings: a wrong config fails at start with a sentence that says what to type."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ausl_dist.settings import SettingsError, from_mapping
from ausl_dist.train.schedule import learning_rate, values_at
from ausl_dist.train.settings import (
    CheckpointSettings,
    EngineSettings,
    HealthSettings,
    OnlineSettings,
    OptimizerSettings,
    RewindSettings,
    RunSettings,
    WatchSettings,
    load_settings,
)
from tests.support.runs import make_run, run_config

CONFIGS = Path(__file__).parents[2] / "configs"


def test_a_run_folder_says_everything(tmp_path: Path) -> None:
    settings = load_settings(make_run(tmp_path / "run", tmp_path / "corpus"))
    assert settings.name == "run"
    assert settings.optimizer == OptimizerSettings()
    assert settings.objectives["temporal_ranking"]["_target_"].endswith("TemporalRanking")


def test_a_folder_without_config_says_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"launch/README\.md"):
        load_settings(tmp_path)


BOMB = "\n".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9 if level else ['x'] * 9)}]"
    for level in range(12)
)  # 600 bytes for 9^12 values


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 100000 values"),
        ("a: &a [*a]", "more than 100000 values"),
        ("name: ${oc.env:AUSL_SECRET_OF_TEST}", "outside the config"),
        ("name: ${ oc.env:AUSL_SECRET_OF_TEST}", "outside the config"),
        ("data: {corpora: {a: {url: 's3://${oc.env:AUSL_SECRET_OF_TEST}'}}}", "outside"),
        (r'name: "\x24{oc.env:AUSL_SECRET_OF_TEST}"', "outside"),
        ("{name: env, folder: '${oc.${name}:AUSL_SECRET_OF_TEST}'}", "outside"),
        ("{steps: 5, name: a, steps: 9}", "steps stands twice"),
        ("data: {lanes: 1, lanes: 2}", "lanes stands twice"),
        ("steps: 1:30:00", "another base"),
        ("seed: 010", "another base"),
        ("a: " + "[" * 2000, "cannot be read"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
    ids=lambda text: text[:24],
)
def test_a_config_of_others_costs_little_and_hears_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setenv("AUSL_SECRET_OF_TEST", "wJalrXUtnFEMI")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message) as refused:
        load_settings(tmp_path)
    assert "wJalr" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": {"zero_stge": 1}}, "did you mean engine.zero_stage?"),
        ({"engine": {"zero_stage": 0, "precision": "bf16"}}, "Type precision=bf16_autocast"),
        ({"engine": {"zero_stage": 5}}, "engine.zero_stage must be one of 0, 1, 2, 3"),
        ({"optimizer": {"learning_rate": 0.0}}, "above 0"),
        ({"optimizer": {"warmup_steps": 13}}, "more than steps=12"),
        ({"checkpoint": {"keep_every_steps": 4}}, "multiple of every_steps=3"),
        ({"backbone": {"image_size": 64}}, "type backbone.image_size='${data.image_size}'"),
        ({"mixture": {"other": 1.0}}, "mixture must weight the objectives exactly"),
        ({"objectives": {}}, "mixture=temporal_ranking"),
        ({"mixture_final": {"other": 1.0}}, "of objectives in the mixture"),
        (
            {"online": {"corpus": "/labelled", "every_steps": 4}},
            "multiple of checkpoint.every_steps=3",
        ),
        ({"checkpoint": {"keep_best": 1}}, "set online.corpus"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"name": "a/b"}, "without '/'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_type(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config = run_config(tmp_path, tmp_path / "corpus")
    for group, values in changes.items():
        config[group] = (
            {**config.get(group, {}), **values}
            if isinstance(values, dict) and values
            else values
        )
    with pytest.raises(SettingsError, match=re.escape(message)):
        from_mapping(RunSettings, config)


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("optimizer", OptimizerSettings),
        ("engine", EngineSettings),
        ("checkpoint", CheckpointSettings),
    ],
)
def test_every_file_of_these_groups_can_be_used(group: str, kind: type) -> None:
    files = sorted((CONFIGS / group).glob("*.yaml"))
    assert files
    for file in files:
        values = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(values, dict)
        from_mapping(kind, {str(key): value for key, value in values.items()}, file.stem)


def test_numbers_that_cannot_be_meant_are_refused() -> None:
    for make in (
        lambda: WatchSettings(step_timeout_seconds=0),
        lambda: WatchSettings(max_bad_steps=0),
        lambda: HealthSettings(every_steps=0),
        lambda: CheckpointSettings(keep_last=0),
        lambda: EngineSettings(gradient_accumulation=0),
        lambda: EngineSettings(collective_timeout_seconds=0),
        lambda: OptimizerSettings(weight_decay=-1),
        lambda: OptimizerSettings(clip_norm=0.0),
        lambda: OptimizerSettings(layer_decay=1.1),
        lambda: OptimizerSettings(final_weight_decay=-0.1),
        lambda: EngineSettings(peak_teraflops=0.0),
        lambda: RewindSettings(max_times=-1),
        lambda: RewindSettings(window_steps=2),
        lambda: OnlineSettings(test_share=1.0),
        lambda: CheckpointSettings(keep_best=-1),
        lambda: OptimizerSettings(final_share=2),
    ):
        with pytest.raises(ValueError, match=r"not|above"):
            make()


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    settings = OptimizerSettings(learning_rate=2.0, warmup_steps=4, final_share=0.1)
    rates = [learning_rate(step, 20, settings) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[-1] == pytest.approx(0.2)
    assert all(later <= sooner for sooner, later in itertools.pairwise(rates[4:]))
    constant = OptimizerSettings(learning_rate=2.0, schedule="constant")
    assert {learning_rate(step, 20, constant) for step in range(20)} == {2.0}
    assert learning_rate(0, 1, OptimizerSettings(learning_rate=1.0)) == 1.0


def test_decay_momentum_and_weights_move_from_their_first_to_their_last_value(
    tmp_path: Path,
) -> None:
    config = run_config(
        tmp_path,
        tmp_path / "corpus",
        optimizer={"weight_decay": 0.04, "final_weight_decay": 0.4},
    )
    config |= {
        "mixture": {"temporal_ranking": 1.0},
        "mixture_final": {"temporal_ranking": 3.0},
        "mixture_ramp_steps": 4,
    }
    settings = from_mapping(RunSettings, {**config, "teacher_final_momentum": 1.0})
    first, middle, last = (
        values_at(step, settings, 0.9) for step in (0, 2, settings.steps - 1)
    )
    assert (first.weight_decay, first.teacher_momentum) == pytest.approx((0.04, 0.9))
    assert first.weights == {"temporal_ranking": 1.0}
    assert middle.weights == {"temporal_ranking": 2.0}
    assert last.weights == {"temporal_ranking": 3.0}
    assert (last.weight_decay, last.teacher_momentum) == pytest.approx((0.4, 1.0))
    still = from_mapping(RunSettings, run_config(tmp_path, tmp_path / "corpus"))
    assert (
        len(
            {
                (v.weight_decay, v.teacher_momentum, *v.weights.values())
                for v in (values_at(s, still, 0.9) for s in range(12))
            }
        )
        == 1
    )

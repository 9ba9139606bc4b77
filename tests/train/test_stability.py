"""A rise of the loss that lasts is found, noise is not, and a resume changes nothing about it."""

import json
import random
from pathlib import Path

import pytest

from ausl_dist.train.record import note_rewind, read_rewinds
from ausl_dist.train.rewind import roll_back
from ausl_dist.train.settings import RewindSettings
from ausl_dist.train.stability import DivergedError, Rewind, Stability, Trouble, is_left_out

SETTINGS = RewindSettings(window_steps=20, spike_deviations=8.0, spike_steps=3)


def judge_all(
    losses: list[float], *, bad: dict[int, str] | None = None, cut: int | None = None
) -> list[Trouble | None]:
    stability, found = Stability(SETTINGS, max_bad_steps=3), []
    for step, loss in enumerate(losses):
        if step == cut:
            stability = Stability(
                SETTINGS, max_bad_steps=3, state=json.loads(json.dumps(stability.state()))
            )
        found.append(stability.judge(step, loss, (bad or {}).get(step)))
    return found


def falling(steps: int, seed: int = 0) -> list[float]:
    chance = random.Random(seed)
    return [3.0 * 0.99**step + chance.gauss(0, 0.1) for step in range(steps)]


def test_a_loss_that_falls_with_noise_and_single_outliers_is_no_trouble() -> None:
    losses = falling(300)
    for step in range(25, 300, 10):
        losses[step] = losses[step + 1] = 50.0  # two in a row, not three
    assert not any(judge_all(losses))


def test_a_rise_that_lasts_is_trouble_from_its_first_step_on() -> None:
    losses = falling(60)
    losses[40:] = [9.0] * 20
    found = judge_all(losses)
    assert found[42] is not None
    assert (found[42].first, found[42].last) == (40, 42)
    assert "rose to 9" in found[42].reason
    assert not any(found[:42])


def test_equal_losses_do_not_make_a_spike_of_a_little_noise() -> None:
    assert not any(judge_all([1.0] * 40 + [1.0005] * 5))


def test_bad_steps_in_a_row_are_trouble_and_bad_steps_apart_are_not() -> None:
    losses = falling(30)
    assert not any(judge_all(losses, bad={4: "loss", 5: "loss", 7: "gradient", 8: "loss"}))
    found = judge_all(losses, bad={4: "loss", 5: "gradient", 6: "gradient"})
    assert found[6] is not None
    assert (found[6].first, found[6].last) == (4, 6)


def test_a_resume_at_any_step_finds_the_same_trouble() -> None:
    losses = falling(60)
    losses[40:] = [9.0] * 20
    wanted = judge_all(losses, bad={30: "loss", 31: "loss"})
    for cut in (0, 19, 30, 31, 40, 41, 42):
        assert judge_all(losses, bad={30: "loss", 31: "loss"}, cut=cut) == wanted


def test_where_spikes_do_not_count_any_finite_loss_is_good() -> None:
    stability = Stability(SETTINGS, max_bad_steps=3)
    assert not any(
        stability.judge(step, 1.0 if step < 30 else 9.0, None, spikes_count=False)
        for step in range(40)
    )
    assert not stability.suspicious


def checkpoints(folder: Path, *steps: int) -> None:
    for step in steps:
        (folder / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)


def test_going_back_removes_what_is_spoilt_and_is_written_down_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ausl_dist.train.rewind.damage", lambda checkpoint: None)
    checkpoints(tmp_path, 10, 20, 23)
    found, rewind = roll_back(tmp_path, Trouble(20, 24, "why"), attempt=2)
    assert found is not None
    assert found.name == "step-00000020"
    assert read_rewinds(tmp_path) == [rewind] == [Rewind(20, 24, "why", to_step=20, attempt=2)]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000010",
        "step-00000020",
    ]


def test_a_run_is_never_started_from_nothing_because_its_old_checkpoints_are_gone(
    tmp_path: Path,
) -> None:
    checkpoints(tmp_path, 23)
    with pytest.raises(DivergedError, match="keep_last"):
        roll_back(tmp_path, Trouble(20, 24, "why"), attempt=1)
    assert read_rewinds(tmp_path) == []


def test_the_record_tells_which_steps_are_left_out(tmp_path: Path) -> None:
    for rewind in (Rewind(5, 7, "a", 4, 1), Rewind(12, 12, "b", 8, 2)):
        note_rewind(tmp_path, rewind)
    rewinds = read_rewinds(tmp_path)
    assert [step for step in range(20) if is_left_out(step, rewinds)] == [5, 6, 7, 12]
    assert [step for step in range(20) if any(rewind.abandons(step) for rewind in rewinds)] == [
        6,
        7,
    ]

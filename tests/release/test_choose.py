"""Asked for the best checkpoint, a release must give the one that the online probe found best,
or say why it cannot.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

from ausl_dist.files import read_json
from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.choose import choose_checkpoint
from tests.support.run_folders import TINY, complete, make_run
from tools import release


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three complete checkpoints, of steps 7, 14 and 21."""
    run = make_run(tmp_path)
    first = run / "checkpoints" / "step-00000007"
    for step in (14, 21):
        shutil.copytree(first, first.with_name(f"step-{step:08d}"))
    for folder in (run / "checkpoints").iterdir():
        complete(folder)
    return run


def probe(run: Path, *lines: object) -> None:
    (run / "online.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_newest_is_the_default(run: Path) -> None:
    assert choose_checkpoint(run, "newest").folder.name == "step-00000021"


@pytest.mark.parametrize("name", ["probe_icc", "probe_f1"])
def test_the_best_is_the_one_with_the_highest_score_that_is_still_there(
    run: Path, name: str
) -> None:
    probe(
        run,
        {"step": 7, name: 0.2},
        {"step": 14, name: 0.4, "knn_icc": 0.1},
        {"step": 18, name: 0.9},
        {"step": 21, name: 0.3},
    )
    chosen = choose_checkpoint(run, "best")
    assert chosen.folder.name == "step-00000014"
    assert (
        chosen.reason
        == f"the best by the online probe among the checkpoints kept: {name} 0.4000 at step 14"
    )


def test_the_reason_stands_in_the_bundle(run: Path) -> None:
    probe(run, {"step": 14, "probe_icc": 0.4})
    write_bundle(run, run.parent / "bundle", checkpoint="best")
    record = read_json(run.parent / "bundle" / "record.json")
    assert record["step"] == 14
    assert "probe_icc 0.4000" in record["chosen"]
    assert "probe_icc 0.4000" in (run.parent / "bundle" / "README.md").read_text()


def test_the_command_line_releases_the_best_under_a_name_made_of_the_content(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    probe(run, {"step": 14, "probe_icc": 0.4})
    out = run.parent / "bundles"
    monkeypatch.setattr(
        sys, "argv", ["release.py", str(run), "--into", str(out), "--checkpoint", "best"]
    )
    assert release.main() == 0
    (bundle,) = out.iterdir()
    assert bundle.name.startswith("tiny-14-")
    said = capsys.readouterr().out
    assert (
        "of step 14, the best by the online probe among the checkpoints kept: "
        f"probe_icc 0.4000 at step 14, as {bundle}" in said
    )
    assert bundle.name in said.splitlines()[1]


def test_a_step_that_was_done_twice_counts_as_it_was_the_second_time(run: Path) -> None:
    probe(
        run,
        {"step": 14, "probe_icc": 0.9},
        {"step": 7, "probe_icc": 0.3},
        {"step": 14, "probe_icc": 0.1},
    )
    assert choose_checkpoint(run, "best").folder.name == "step-00000007"


def test_a_damaged_best_is_passed_over_loudly(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    probe(run, {"step": 7, "probe_icc": 0.2}, {"step": 14, "probe_icc": 0.4})
    (run / "checkpoints" / "step-00000014" / "backbone.safetensors").write_bytes(b"")
    assert choose_checkpoint(run, "best").folder.name == "step-00000007"
    assert "step-00000014 is damaged" in caplog.text


def test_scores_that_are_no_numbers_are_not_the_best(run: Path) -> None:
    (run / "online.jsonl").write_text(
        '{"step": 7, "probe_icc": 0.2}\n{"step": 14, "probe_icc": NaN}\n{"step": 21, "probe_icc": '
        "null}\n"
    )
    assert choose_checkpoint(run, "best").folder.name == "step-00000007"


def test_a_run_without_an_online_probe_says_what_to_type(run: Path) -> None:
    with pytest.raises(ValueError, match=r"no online probe.*--checkpoint newest"):
        choose_checkpoint(run, "best")


def test_scores_without_their_checkpoints_are_told_from_no_scores(run: Path) -> None:
    probe(run, {"step": 100, "probe_icc": 0.2})
    with pytest.raises(ValueError, match="steps with one: 100; checkpoints: 7, 14, 21"):
        choose_checkpoint(run, "best")


@pytest.mark.parametrize(
    "text",
    ["not json\n", "[1]\n", '{"probe_icc": 0.1}\n', '{"step": 7, "probe_icc": "good"}\n'],
)
def test_a_file_without_a_readable_score_is_said(run: Path, text: str) -> None:
    (run / "online.jsonl").write_text(text)
    with pytest.raises(ValueError, match="has a score of the online probe"):
        choose_checkpoint(run, "best")


def test_a_checkpoint_named_by_hand_with_a_flipped_bit_is_not_released(run: Path) -> None:
    checkpoint = run / "checkpoints" / "step-00000014"
    weights = checkpoint / "backbone.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"backbone\.safetensors has another SHA-256"):
        write_bundle(run, run.parent / "bundle", checkpoint=checkpoint)
    assert not (run.parent / "bundle").exists()


def test_weights_of_a_damaged_checkpoint_are_not_begun_with(run: Path) -> None:
    weights = run / "checkpoints" / "step-00000014" / "backbone.safetensors"
    build_backbone(BackboneSettings(TINY, 32, weights=str(weights)))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="of a damaged checkpoint"):
        build_backbone(BackboneSettings(TINY, 32, weights=str(weights)))

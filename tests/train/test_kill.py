"""Nothing a kill, a preemption or another number of ranks does changes what a run comes to."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ausl_dist.files import read_json
from ausl_dist.run_folder import complete_checkpoints, newest_whole_checkpoint
from ausl_dist.train.exits import Exit
from ausl_dist.train.pieces import StoredPieces
from launch.object_store import ObjectStore
from tests.support.corpora import make_corpus
from tests.support.runs import Ranks, losses, make_run, metrics, run_to_end

STEPS = 12


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = make_corpus(tmp_path_factory.mktemp("corpus"), clips=12, frames=10, size=48)
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks from start to end."""
    folder = make_run(tmp_path_factory.mktemp("undisturbed"), corpus)
    run_to_end(folder, 2, start="command")
    return folder


def final(folder: Path) -> dict[str, bytes]:
    """Every tensor of the last checkpoint, as bytes."""
    checkpoint = newest_whole_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint.name == f"step-{STEPS:08d}"
    tensors = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        tensors |= {
            f"{path.name}:{name}": tensor.numpy().tobytes()
            for name, tensor in load_file(path).items()
        }
    return tensors


@pytest.mark.timeout(1800)
def test_killed_at_random_steps_a_run_ends_bit_for_bit_as_if_undisturbed(
    corpus: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "killed", corpus)
    chance = random.Random(3)
    for kill_at in (4, 8):
        with Ranks(folder, 2) as ranks:
            ranks.wait_for_step(kill_at)
            time.sleep(
                chance.uniform(0, 0.3)
            )  # anywhere in a step, or in the save of step 6 or 9
            ranks.kill()
    run_to_end(folder, 2, start="stand_by")  # as a supervisor starts again
    assert losses(folder) == losses(undisturbed)
    assert sorted(losses(folder)) == list(range(STEPS))
    assert final(folder) == final(undisturbed)
    starts = read_json(folder / "record.json")["starts"]
    assert {
        (start["decoding"]["device"], start["decoding"]["decoder"]) for start in starts
    } == {("cpu", "pyav")}
    assert starts[0]["arithmetic"] == starts[2]["arithmetic"]
    assert [start["attempt"] for start in starts] == [1, 2, 3]
    attempts = [line["attempt"] for line in metrics(folder)]
    assert (attempts[0], attempts[-1]) == (1, 3)
    assert [start["ended"] is None for start in starts] == [True, True, False]
    assert starts[2]["ended"]["how"] == "done"
    assert starts[1]["resumed_from"] is not None
    assert not list((folder / "checkpoints").glob(".*")), "a killed save was left lying about"


@pytest.mark.timeout(1800)
def test_a_run_folder_that_is_lost_goes_on_from_the_copies_in_object_storage(
    corpus: Path, undisturbed: Path, object_store: ObjectStore, tmp_path: Path
) -> None:
    object_store.make_bucket("copies")
    copies = {"every_steps": 3, "upload": "s3://copies/run"}
    with Ranks(make_run(tmp_path / "first", corpus, checkpoint=copies), 2) as ranks:
        # the copy of step 3 is whole, or the save of step 6 would not have begun
        ranks.wait_for_step(7)
        ranks.kill()
    shutil.rmtree(tmp_path / "first")
    elsewhere = make_run(tmp_path / "elsewhere", corpus, checkpoint=copies)
    run_to_end(elsewhere, 2)
    assert read_json(elsewhere / "record.json")["starts"][0]["step"] in (3, 6)
    assert final(elsewhere) == final(undisturbed)


@pytest.mark.timeout(1800)
def test_asked_to_stop_all_ranks_save_together_and_the_next_start_goes_on(
    corpus: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "stopped", corpus, checkpoint={"every_steps": 100})
    with Ranks(folder, 2) as ranks:
        ranks.wait_for_step(3)
        ranks.processes[1].send_signal(signal.SIGUSR2)  # one rank alone hears of it
        assert ranks.wait() == [Exit.PREEMPTED, Exit.PREEMPTED], ranks.said()
    (checkpoint,) = complete_checkpoints(folder)
    assert int(checkpoint.name.removeprefix("step-")) == metrics(folder)[-1]["step"] + 1
    run_to_end(folder, 2)
    assert losses(folder) == losses(undisturbed)
    assert final(folder) == final(undisturbed)


@pytest.mark.timeout(1800)
def test_going_on_with_another_number_of_ranks_and_zero_stage_changes_rounding_alone(
    corpus: Path, tmp_path: Path
) -> None:
    # Layer norm: batch norm's statistics are those of a rank's clips, so there the number of
    # ranks does change the loss. A constant rate, since the stages below end at different
    # steps.
    same = {"backbone": {"name": "test_convnext"}, "optimizer": {"schedule": "constant"}}
    alone = make_run(tmp_path / "alone", corpus, **same)
    run_to_end(alone, 1)
    changing = tmp_path / "changing"
    for steps, zero_stage, world_size in ((4, 1, 2), (8, 3, 1), (STEPS, 2, 2)):
        make_run(changing, corpus, steps=steps, engine={"zero_stage": zero_stage}, **same)
        run_to_end(changing, world_size)
    mine, wanted = losses(changing), losses(alone)
    for step in range(STEPS):
        assert mine[step][0] == pytest.approx(wanted[step][0], rel=1e-3), f"step {step}"
    a, b = (
        StoredPieces(sorted(newest_whole_checkpoint(folder).glob("rank-*")))
        for folder in (changing, alone)
    )  # type: ignore[union-attr]
    for name, weight in b.whole("master").items():
        assert (a.whole("master")[name] - weight).abs().max() < 1e-3, name


@pytest.mark.timeout(1800)
def test_a_rank_that_hangs_ends_the_others_and_a_rank_that_dies_too(
    corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(
        tmp_path / "hung", corpus, steps=10_000, watch={"step_timeout_seconds": 20.0}
    )
    with Ranks(folder, 2) as ranks:
        ranks.wait_for_step(2)
        ranks.processes[1].send_signal(signal.SIGSTOP)
        assert ranks.processes[0].wait(200) == Exit.STALLED, ranks.said()
        assert "all_reduce" in (folder / "logs" / "stalled-rank-00000.txt").read_text()
    with Ranks(folder, 2) as ranks:
        ranks.wait_for_step(metrics(folder)[-1]["step"] + 2)
        ranks.processes[1].kill()
        assert ranks.processes[0].wait(100) not in (Exit.DONE, Exit.PREEMPTED)


@pytest.mark.timeout(600)
def test_a_mistake_in_the_config_is_one_sentence(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "mistaken", corpus, engine={"zero_stge": 2})
    with Ranks(folder, 1, start="command") as ranks:
        assert ranks.wait() == [2]
        assert (
            ranks.said().strip().splitlines()[-1]
            == "error: unknown setting engine.zero_stge: did you mean engine.zero_stage?"
        )
        assert "Traceback" not in ranks.said()

"""One dial and the number of ranks: what follows from them fits together, on any cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ausl_dist.settings import SettingsError, from_mapping
from ausl_dist.train.settings import RunSettings
from launch.compose import Composed, choices, compose, compose_uncut
from launch.global_batch import USUAL_LANES, BatchSettings, check_ranks, describe, plan_batch
from launch.prepare import change_cluster, prepare

URL = "data.corpora.main.url=s3://bucket/corpus"
MANY_RANKS = [f"cluster.nodes={nodes}" for nodes in (1, 2, 3, 8, 64)]


def run_of(*words: str) -> Composed:
    return compose(["experiment=joint", URL, *words])


@given(
    clips=st.integers(1, 4096),
    ranks=st.integers(1, 512),
    at_once=st.integers(1, 512),
    kind=st.sampled_from(["sgd", "adamw"]),
)
def test_every_batch_is_cut_evenly_and_grows_no_more_than_it_must(
    clips: int, ranks: int, at_once: int, kind: str
) -> None:
    plan = plan_batch(BatchSettings(clips, clips, at_once), ranks, kind)
    check_ranks(plan.lanes, plan.clips_per_lane, plan.pieces, ranks)
    assert plan.clips_a_rank * ranks == plan.clips
    assert clips <= plan.clips < clips + ranks
    assert plan.clips_a_rank // plan.pieces <= at_once
    assert plan.lanes <= max(ranks, USUAL_LANES)
    assert plan.rate_factor >= 1
    assert (plan.rate_factor == 1) == (plan.clips == clips)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 6))
def test_usual_numbers_of_ranks_see_the_same_batches(one: int, other: int, size: int) -> None:
    batch = BatchSettings(clips=16 << size, clips_at_once=4096)
    first, second = (plan_batch(batch, 2**ranks, "adamw") for ranks in (one, other))
    assert (first.lanes, first.clips_per_lane) == (second.lanes, second.clips_per_lane)


def test_the_learning_rate_follows_the_batch_as_the_optimizer_wants() -> None:
    batch = BatchSettings(clips=256, rate_clips=64)
    assert plan_batch(batch, 8, "sgd").rate_factor == 4
    assert plan_batch(batch, 8, "adam").rate_factor == 2


@pytest.mark.parametrize("cluster", ["local", "slurm"])
@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_runs_on_1_to_512_ranks_as_it_is(
    experiment: str, cluster: str
) -> None:
    uncut = compose_uncut([f"experiment={experiment}", f"cluster={cluster}", URL])
    rate, clips = uncut.run["optimizer"]["learning_rate"], uncut.batch.clips
    for ranks in (*(2**power for power in range(10)), 3, 12, 100, 511):
        composed = uncut.for_ranks(ranks)
        settings = from_mapping(RunSettings, composed.run)
        assert clips <= settings.data.batch_clips < clips + ranks
        assert settings.data.lanes % ranks == 0
        growth = settings.data.batch_clips / uncut.batch.rate_clips
        assert rate <= settings.optimizer.learning_rate <= rate * growth * (1 + 1e-9)
        assert f"on each of {ranks} ranks" in composed.batch


@pytest.mark.parametrize("nodes", MANY_RANKS)
def test_the_unedited_cluster_takes_the_unedited_demo(nodes: str) -> None:
    composed = compose(["experiment=demo", "cluster=slurm", URL, nodes])
    ranks = 8 * int(nodes.partition("=")[2])
    assert composed.run["data"]["lanes"] % ranks == 0
    assert f"on each of {ranks} ranks" in composed.batch
    assert f"learning rate {composed.run['optimizer']['learning_rate']:.4g}" in composed.batch


def test_lanes_that_one_says_oneself_stay_and_are_checked() -> None:
    composed = run_of("data.lanes=4", "data.clips_per_lane=2", "cluster.ranks=2")
    assert (composed.run["data"]["lanes"], composed.run["data"]["clips_per_lane"]) == (4, 2)
    assert composed.run["optimizer"]["learning_rate"] == 1e-3
    with pytest.raises(
        ValueError, match=r"8 lanes cannot be dealt to 32 ranks: use one of 1, 2, 4"
    ):
        run_of("cluster=slurm", "cluster.nodes=4", "data.lanes=8")
    with pytest.raises(ValueError, match=r"engine\.gradient_accumulation=3 does not divide"):
        run_of("engine.gradient_accumulation=3")


def test_the_dial_moves_all_of_them() -> None:
    small, large = run_of("cluster.ranks=4"), run_of("cluster.ranks=4", "batch.clips=256")
    assert (small.run["engine"]["gradient_accumulation"], large.run["data"]["lanes"]) == (1, 16)
    assert large.run["engine"]["gradient_accumulation"] == 2, "64 clips of a rank, 32 at once"
    assert (
        large.run["optimizer"]["learning_rate"] == 2 * small.run["optimizer"]["learning_rate"]
    )
    with pytest.raises(ValueError, match=r"did you mean batch\.clips"):
        run_of("batch.clipz=3")
    with pytest.raises(ValueError, match="batch: clips must be at least 1"):
        run_of("batch.clips=0")


def test_a_cluster_with_gpus_turns_on_what_pays_there_and_words_win() -> None:
    assert run_of("cluster=slurm").run["engine"]["precision"] == "bf16_autocast"
    switches = ("compile", "channels_last", "tf32", "cudnn_benchmark")
    engine = run_of("cluster=slurm").run["engine"]
    assert [engine[switch] for switch in switches] == [True] * 4
    assert run_of("cluster=slurm").run["data"]["decoder"] == "auto"
    assert run_of("cluster=slurm", "engine.precision=bf16").run["engine"]["precision"] == "bf16"
    for without in ("cluster=slurm_cpu", "cluster=local"):
        assert run_of(without).run["engine"]["precision"] == "fp32"
        engine = run_of(without).run["engine"]
        assert [engine[switch] for switch in switches] == [False] * 4
    # what the cluster's file turned on and fp32 cannot have is said, not left out in silence
    with pytest.raises(SettingsError, match=r"tf32=false, or compile=false"):
        run_of("cluster=slurm", "engine.precision=fp32")
    fp32 = run_of("cluster=slurm", "engine.precision=fp32", "engine.compile=false")
    assert fp32.run["engine"]["tf32"] is True


def test_a_run_goes_on_with_ranks_that_can_share_its_batches(tmp_path_factory: object) -> None:
    folder = tmp_path_factory.mktemp("batch") / "run"  # type: ignore[attr-defined]
    run = prepare(
        compose(
            [
                "experiment=joint",
                "data.corpora.main.url=/seen/by/nodes",
                f"folder={folder}",
                "cluster=slurm_cpu",
            ]
        )
    )
    assert change_cluster(run, ["cluster.nodes=16"])["nodes"] == 16
    with pytest.raises(
        SettingsError, match=r"16 lanes cannot be dealt to 3 ranks: use one of 1, 2, 4"
    ):
        change_cluster(run, ["cluster.nodes=3"])


def test_the_line_for_people_names_what_follows() -> None:
    said = describe(16, 4, 2, ranks=1, rate=1e-3)
    for part in (
        "64 clips a step",
        "64 on each of 1 ranks in 2 pieces",
        "rate 0.001",
        "1, 2, 4, 8, 16",
    ):
        assert part in said

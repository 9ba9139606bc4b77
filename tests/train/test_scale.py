"""The arithmetic of scale: limits that everybody knows, and failures against a simulation of
them.
"""

import dataclasses
import random
import statistics

import pytest

from ausl_dist.train.scale import Cluster, Profile, expected_seconds, predict

PROFILE = Profile(
    weights=10**8,
    clips_a_step=32,
    step_seconds=0.5,
    engine_seconds=0.01,
    reduced_bytes=4 * 10**8,
    all_reduce_seconds=0.02,
    two_rank_step_seconds=0.53,
    snapshot_seconds=0.8,
    checkpoint_bytes=2e9,
    save_seconds=4.0,
)
QUIET = Cluster(jitter=0.0, node_hours_between_failures=1e9)


def test_one_rank_without_limits_is_the_measurement() -> None:
    alone = predict(PROFILE, dataclasses.replace(QUIET, ranks_per_node=1), 1)
    assert alone.step_seconds == pytest.approx(0.51)
    assert alone.stall_seconds == 0
    assert alone.goodput == pytest.approx(1000 * 0.51 / (1000 * 0.51 + 0.8), rel=1e-4)


def test_gradients_cost_what_a_ring_costs_and_no_more_than_twice_the_bytes() -> None:
    open_ring = dataclasses.replace(
        QUIET, hidden_share=0.0, latency_seconds=0.0, ranks_per_node=1
    )
    two, many = predict(PROFILE, open_ring, 2), predict(PROFILE, open_ring, 512)
    assert two.exposed_reduce_seconds == pytest.approx(
        PROFILE.reduced_bytes / open_ring.node_bytes_per_second
    )
    assert many.exposed_reduce_seconds == pytest.approx(
        2 * two.exposed_reduce_seconds, rel=0.01
    )
    assert (
        predict(
            PROFILE, dataclasses.replace(open_ring, hidden_share=0.8), 512
        ).exposed_reduce_seconds
        == 0
    )


def test_a_store_that_is_too_slow_sets_the_pace() -> None:
    narrow = dataclasses.replace(QUIET, store_bytes_per_second=1e9)
    stalled = predict(PROFILE, narrow, 512)
    assert stalled.read_bytes_per_second == pytest.approx(1e9)
    assert stalled.stall_seconds > 0
    assert predict(PROFILE, narrow, 1).stall_seconds == 0


def test_more_nodes_fail_more_often_and_do_less_of_use() -> None:
    predictions = [
        predict(PROFILE, Cluster(node_hours_between_failures=500.0), nodes)
        for nodes in (1, 8, 64, 512)
    ]
    assert [p.goodput for p in predictions] == sorted(
        (p.goodput for p in predictions), reverse=True
    )
    assert predictions[-1].hours_between_failures == pytest.approx(500 / 512)
    assert predictions[0].goodput > 0.98


def test_the_expected_time_of_work_is_that_of_simulated_failures() -> None:
    work, restart, mean = 100.0, 30.0, 150.0
    chance = random.Random(0)

    def once() -> float:
        clock, left = 0.0, work
        while (failure := chance.expovariate(1 / mean)) < left:
            clock, left = clock + failure, restart + work
        return clock + left

    simulated = statistics.fmean(once() for _ in range(40_000))
    assert expected_seconds(work, restart, mean) == pytest.approx(simulated, rel=0.03)
    assert expected_seconds(work, 0.0, 1e9) == pytest.approx(work, rel=1e-6)
    assert expected_seconds(1e6, 0.0, 1.0) == float("inf")

"""What a run would do on other numbers of nodes than it was measured on: arithmetic, with every
assumption in this text.

    Profile (of one node: python -m tools.bench_step --profile) ─┐
    Cluster (bandwidths, failures) ──────────────────────────────┴─predict──▶ Prediction for n nodes

1. Compute a step takes the same on every rank; the slowest of W ranks is later by jitter *
   sqrt(2 ln W), the expected maximum of normals.
2. Gradients are summed by rings, inside a node and then between nodes: a ring of n moves 2 (n -
   1) / n of the bytes through each link (Patarasu and Yuan, JPDC 2009) and takes 2 (n - 1)
   latencies. ZeRO 1 and 2 move as much; ZeRO 3 half as much again. A share of the backward pass
   (two thirds of the step) hides it.
3. A rank decodes at its own rate; storage gives each node at most its own bandwidth, and all
   together at most the store's. Data come ahead of the step, so a step takes the longer of
   computing and being fed; the difference is the stall.
4. A save stops a step for the copy out of the device, which ZeRO deals out to the ranks; the
   write goes on behind the steps, and the next save waits for it.
5. Nodes fail independently with exponential times. A failure costs the steps since the last
   save and a restart, during which nodes fail as well: the expected time of T seconds' work is
   exp(R / M) (exp(T / M) - 1) M (Daly, FGCS 2006), with M the mean time between failures of the
   whole cluster and R the restart.
6. Goodput is the share of the wall time spent in steps that count, without their stalls and
   saves, as ausl_goodput_ratio measures it.
"""

import math
from dataclasses import dataclass

BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True)
class Profile:
    """A measurement of one rank, and of two."""

    weights: int
    clips_a_step: int  # of one rank
    step_seconds: float  # of one rank by itself, in plain torch
    engine_seconds: float  # that the engine adds to it
    reduced_bytes: int  # gradients of all weights
    all_reduce_seconds: float  # of that many bytes over two ranks
    two_rank_step_seconds: float
    snapshot_seconds: float  # copy out of the device, on one rank
    checkpoint_bytes: float
    save_seconds: float

    def __post_init__(self) -> None:
        if (
            min(
                self.step_seconds,
                self.all_reduce_seconds,
                self.two_rank_step_seconds,
                self.save_seconds,
            )
            <= 0
        ):
            raise ValueError(
                "the profile's times must be above 0: measure it again with python -m tools.bench_step "
                "--profile FILE"
            )

    @property
    def two_rank_prediction_seconds(self) -> float:
        """A step of two ranks, from what one rank and an all-reduce take; to be compared with
        `two_rank_step_seconds`.
        """
        return self.step_seconds + self.engine_seconds + self.all_reduce_seconds


@dataclass(frozen=True)
class Cluster:
    """What the measured rank is multiplied into."""

    ranks_per_node: int = 8
    link_bytes_per_second: float = 200e9  # of one rank inside its node
    node_bytes_per_second: float = 50e9  # between nodes
    latency_seconds: float = 10e-6
    hidden_share: float = 0.8  # of the backward pass behind which gradients are summed
    jitter: float = 0.02  # standard deviation of a step over its mean
    clip_bytes: float = 60e3
    decoded_clips_per_second: float = 500.0  # of one rank
    node_storage_bytes_per_second: float = 2e9  # read or written by one node
    store_bytes_per_second: float = 100e9  # read or written by all
    save_every_steps: int = 1000
    node_hours_between_failures: float = 2000.0
    restart_seconds: float = 300.0

    def __post_init__(self) -> None:
        rates = (
            self.link_bytes_per_second,
            self.node_bytes_per_second,
            self.node_storage_bytes_per_second,
            self.store_bytes_per_second,
        )
        if (
            min(
                *rates,
                self.clip_bytes,
                self.decoded_clips_per_second,
                self.node_hours_between_failures,
            )
            <= 0
        ):
            raise ValueError(
                "bandwidths, clip_bytes, decoded_clips_per_second and node_hours_between_failures "
                "must be above 0"
            )
        if (
            self.ranks_per_node < 1
            or self.save_every_steps < 1
            or not 0 <= self.hidden_share <= 1
        ):
            raise ValueError(
                "need ranks_per_node >= 1, save_every_steps >= 1 and hidden_share in [0, 1]"
            )
        if min(self.latency_seconds, self.jitter, self.restart_seconds) < 0:
            raise ValueError("latency_seconds, jitter and restart_seconds must be at least 0")


@dataclass(frozen=True)
class Prediction:
    """A run on `nodes` nodes."""

    nodes: int
    step_seconds: float  # with its stall
    stall_seconds: float  # of it, waiting for data
    exposed_reduce_seconds: float
    clips_per_second: float  # of the whole run, while it runs
    read_bytes_per_second: float
    save_seconds: float  # behind the steps
    save_stall_seconds: float  # of each save, in front of them
    hours_between_failures: float
    goodput: float


def predict(profile: Profile, cluster: Cluster, nodes: int) -> Prediction:
    """What a run on this many nodes would do."""
    ranks = nodes * cluster.ranks_per_node
    compute = (profile.step_seconds + profile.engine_seconds) * (
        1 + cluster.jitter * math.sqrt(2 * math.log(ranks))
    )
    reduce = _ring(
        profile.reduced_bytes,
        cluster.ranks_per_node,
        cluster.link_bytes_per_second,
        cluster.latency_seconds,
    )
    reduce += _ring(
        profile.reduced_bytes, nodes, cluster.node_bytes_per_second, cluster.latency_seconds
    )
    exposed = max(0.0, reduce - cluster.hidden_share * BACKWARD_SHARE * profile.step_seconds)
    storage = min(cluster.node_storage_bytes_per_second * nodes, cluster.store_bytes_per_second)
    fed_clips_per_second = min(
        cluster.decoded_clips_per_second, storage / cluster.clip_bytes / ranks
    )
    step = max(compute + exposed, profile.clips_a_step / fed_clips_per_second)
    save = profile.checkpoint_bytes / storage
    save_stall = profile.snapshot_seconds / ranks + max(
        0.0, save - cluster.save_every_steps * step
    )
    mean_seconds = 3600 * cluster.node_hours_between_failures / nodes
    useful = cluster.save_every_steps * (compute + exposed)
    wall = expected_seconds(
        cluster.save_every_steps * step + save_stall, cluster.restart_seconds, mean_seconds
    )
    return Prediction(
        nodes=nodes,
        step_seconds=step,
        stall_seconds=max(0.0, step - compute - exposed),
        exposed_reduce_seconds=exposed,
        clips_per_second=ranks * profile.clips_a_step / step,
        read_bytes_per_second=ranks * profile.clips_a_step * cluster.clip_bytes / step,
        save_seconds=save,
        save_stall_seconds=save_stall,
        hours_between_failures=mean_seconds / 3600,
        goodput=useful / wall,
    )


def expected_seconds(
    work_seconds: float, restart_seconds: float, mean_seconds_between_failures: float
) -> float:
    """Expected time until so much work is done in one go, where each failure starts it again
    after a restart (Daly 2006).
    """
    mean = mean_seconds_between_failures
    if work_seconds + restart_seconds > 500 * mean:
        return math.inf  # it never ends
    return mean * math.exp(restart_seconds / mean) * math.expm1(work_seconds / mean)


def _ring(size: float, members: int, bytes_per_second: float, latency_seconds: float) -> float:
    hops = 2 * (members - 1)
    return hops / members * size / bytes_per_second + hops * latency_seconds

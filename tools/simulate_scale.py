"""Predict step time, stall, storage traffic, checkpoint cost and goodput of a run on 1 to 512
nodes.

    python -m tools.bench_step --profile profile.json
    python -m tools.simulate_scale profile.json ranks_per_node=8 save_every_steps=500

The assumptions stand at the top of ausl_dist/train/scale.py. The first line checks them on what
was measured: one rank to two.
"""

import argparse
import dataclasses
from pathlib import Path

from ausl_dist import command
from ausl_dist.files import read_json
from ausl_dist.settings import from_mapping
from ausl_dist.train.scale import Cluster, Prediction, Profile, predict

TIMES = ("nodes", "step, s", "stall, s", "reduce exposed, s", "clips/s", "read, GB/s")
COLUMNS = (*TIMES, "save, s", "save stall, s", "h between failures", "goodput")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "profile", type=Path, help="figures of one node, from bench_step.py --profile"
    )
    parser.add_argument(
        "--nodes",
        default="1,2,4,8,16,32,64,128,256,512",
        metavar="N,N",
        help="default 1,2,4,...,512",
    )
    parser.add_argument(
        "cluster",
        nargs="*",
        metavar="NAME=VALUE",
        help="what the cluster is like; see ausl_dist/train/scale.py",
    )
    arguments = parser.parse_intermixed_args()
    profile = from_mapping(Profile, read_json(arguments.profile), str(arguments.profile))
    words = (word.partition("=") for word in arguments.cluster)
    cluster = from_mapping(Cluster, {name: parse(value) for name, _, value in words}, "cluster")
    measured, expected = profile.two_rank_step_seconds, profile.two_rank_prediction_seconds
    print(
        f"check, one rank to two: predicted {expected:.3f} s a step, measured {measured:.3f} s, "
        f"{expected / measured - 1:+.1%}"
    )
    print(", ".join(f"{name}={value:g}" for name, value in dataclasses.asdict(cluster).items()))
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for nodes in arguments.nodes.split(","):
        print(row(predict(profile, cluster, int(nodes))))
    return 0


def parse(value: str) -> float | int:
    """A number as typed: 8, 2e9, 0.5."""
    try:
        return int(value)
    except ValueError:
        return float(value)


def row(p: Prediction) -> str:
    times = (
        f"{p.step_seconds:.3f} | {p.stall_seconds:.3f} | {p.exposed_reduce_seconds:.4f} | "
        f"{p.clips_per_second:.0f}"
    )
    rest = (
        f"{p.save_seconds:.1f} | {p.save_stall_seconds:.3f} | "
        f"{p.hours_between_failures:.1f} | {p.goodput:.1%}"
    )
    return f"| {p.nodes} | {times} | {p.read_bytes_per_second / 1e9:.3f} | {rest} |"


if __name__ == "__main__":
    command.run(main)

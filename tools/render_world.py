"""Render a world of talking faces as a labelled corpus: frames, landmarks and action-unit
intensities that are true by construction.

    python -m tools.render_world --identities 80 --clips 4 --out s3://bucket/world|DIR

Equal options give equal bytes. Run the same command again to go on after a kill; when
everything is done it does nothing.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ausl_dist import command
from ausl_dist.faces.models import cache_folder
from ausl_dist.progress import progress
from ausl_dist.shards.encode import CODECS
from ausl_dist.shards.storage import check_bucket
from ausl_dist.units import title_of
from ausl_dist.world.make import WorldSettings, make_world, work_folder


def main() -> int:
    arguments = _parser().parse_args()
    check_bucket(arguments.out)
    settings = WorldSettings(
        identities=arguments.identities,
        clips=arguments.clips,
        seconds=arguments.seconds,
        fps=arguments.fps,
        size=arguments.size,
        seed=arguments.seed,
        head=arguments.head,
        codec=arguments.codec,
        clips_per_shard=arguments.clips_per_shard,
        flow_gap=arguments.flow_gap,
        one_sided=arguments.one_sided,
    )
    work = arguments.work or work_folder(arguments.out, cache_folder().parent)
    with _progress(settings) as report:
        made = make_world(
            settings, arguments.out, work=work, workers=arguments.workers, on_progress=report
        )
    statement = made.statement
    print(
        f"{'nothing to do: ' if made.was_done else ''}{statement['clips']} clips of "
        f"{statement['identities']} identities, "
        f"{statement['seconds']:.0f} s, "
        f"action units {' '.join(map(title_of, statement['action_units']))}, at {arguments.out}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_world(parser)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--workers",
        type=int,
        default=cores,
        metavar="N",
        help="processes (default: one for each core)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="where shards wait for an upload (default: in the user's cache)",
    )
    return parser


def _add_world(parser: argparse.ArgumentParser) -> None:
    """Options that say what is rendered, and where it goes."""
    parser.add_argument(
        "--identities", type=int, required=True, metavar="N", help="how many people"
    )
    parser.add_argument(
        "--clips", type=int, default=4, metavar="N", help="clips of each (default 4)"
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="URL",
        help="where the corpus goes: a folder, or s3://bucket/name",
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="length of a clip (default 2)"
    )
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second (default 25)")
    parser.add_argument(
        "--size",
        type=int,
        default=128,
        metavar="PIXELS",
        help="side of a frame (default 128; real video has 256)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other people (default 0)"
    )
    parser.add_argument(
        "--head",
        type=Path,
        metavar="FILE",
        help="a blendshape head (.npz) instead of the built-in one",
    )
    parser.add_argument(
        "--codec", choices=CODECS, default="vp9", help="of the clips (default vp9)"
    )
    parser.add_argument(
        "--clips-per-shard", type=int, default=32, metavar="N", help="default 32"
    )
    parser.add_argument(
        "--flow-gap",
        type=int,
        default=0,
        metavar="FRAMES",
        help="store the true motion over this gap",
    )
    parser.add_argument(
        "--one-sided",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="chance of AU 1, 2, 4, 6, 10, 12, 14 to show on one side alone in a clip, which adds "
        "labels of L and R (default 0: both sides together)",
    )


@contextmanager
def _progress(settings: WorldSettings) -> Iterator[Callable[[int], None]]:
    start = time.monotonic()
    first: int | None = None  # what an earlier run had done

    def rate(clips: int) -> str:
        nonlocal first
        first = clips if first is None else first
        frames = (clips - first) * settings.seconds * settings.fps
        return f"{frames / max(time.monotonic() - start, 1e-6):.0f} frames/s"

    with progress("world", " clips") as report:
        yield lambda clips: report(clips, settings.num_clips, rate(clips))


if __name__ == "__main__":
    command.run(main)

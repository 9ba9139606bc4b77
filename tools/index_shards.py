"""Give a folder or prefix of WebDataset shards the index that training needs, and say what the
clips lack.

    python -m tools.index_shards s3://bucket/name|DIR
    python -m tools.index_shards CROPS --out s3://bucket/name|DIR

Shards of ready face crops that were not made here (KEY.mp4 with a caption, or frames beside a
class) stay as they are: clips made of them are written beside them (adopted-*.tar) and indexed.
With --out, face crops as videos, as folders of numbered frames or in shards become a corpus
there.
"""

import argparse
import sys

from ausl_dist import command
from ausl_dist.corpus.adopt import adopt, adopt_crops
from ausl_dist.corpus.fill import Filling
from ausl_dist.corpus.unfinished import refuse_unfinished
from ausl_dist.shards.index import ShardEntry


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", help="where the .tar files are, or the face crops")
    parser.add_argument("--out", metavar="URL", help="where a corpus made of face crops goes")
    parser.add_argument("--licence", help="of crops made elsewhere (default: unknown)")
    parser.add_argument("--fps", type=float, help="of the corpus (default: of its first video)")
    parser.add_argument(
        "--layout",
        default="plain",
        metavar="NAME|RULE",
        help="who is seen, by the key: a preset, or a regular expression with (?P<identity>...)",
    )
    parser.add_argument(
        "--identity-field", metavar="NAME", help="class, or the field of KEY.json that says it"
    )
    arguments = parser.parse_args()
    url = arguments.corpus
    refuse_unfinished(url)
    filling = Filling(
        arguments.fps, arguments.licence, arguments.layout, arguments.identity_field
    )
    done = 0

    def report(entry: ShardEntry, total: int) -> None:
        nonlocal done
        done += 1
        print(
            f"{done}/{total} {entry.name}: {entry.clips} clips, {entry.frames} frames, "
            f"{entry.bytes} bytes",
            file=sys.stderr,
            flush=True,
        )

    if arguments.out is None:
        found = adopt(url, filling=filling, on_shard=report)
    else:
        url, crops = arguments.out, arguments.corpus
        found = adopt_crops([crops], url, filling=filling, on_shard=report)
    print(
        f"{url}: {found.tally.clips} clips, {found.tally.frames} frames at "
        f"{found.tally.uniform['fps']} frames/s are indexed"
    )
    if found.filled is not None:
        for sentence, clips in found.filled.notes.items():
            print(f"filled   {clips} clips: {sentence}")
        for line in found.filled.ledger:
            print(f"left out {line['source']}: {line['message']}")
    for sentence in found.missing():
        print(f"missing  {sentence}")
    return 0


if __name__ == "__main__":
    command.run(main)

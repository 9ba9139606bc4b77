"""Give a folder or prefix of WebDataset shards the index that training needs, and say what the
clips lack.

    python -m tools.index_shards s3://bucket/name|DIR
"""

import argparse
import sys

from ausl_dist import command
from ausl_dist.corpus.adopt import adopt
from ausl_dist.shards.index import ShardEntry


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", help="where the .tar files are; the index is written beside them")
    url = parser.parse_args().corpus
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

    found = adopt(url, on_shard=report)
    print(
        f"{url}: {found.tally.clips} clips, {found.tally.frames} frames at "
        f"{found.tally.uniform['fps']} frames/s are indexed"
    )
    for sentence in found.missing():
        print(f"missing  {sentence}")
    return 0


if __name__ == "__main__":
    command.run(main)

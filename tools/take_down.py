"""Take videos, identities or clips out of a finished corpus: out of the index at once, then out
of the shards.

    python -m tools.take_down s3://bucket/name|DIR --source VIDEO --why "asked for by the
    uploader"
"""

import argparse
import datetime
import sys

from ausl_dist import command
from ausl_dist.corpus.takedown import Request, take_down


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", help="a folder, or s3://bucket/name")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        help="a source, or the beginning of its name up to a '/'",
    )
    parser.add_argument("--identity", action="append", default=[])
    parser.add_argument("--clip", action="append", default=[], help="a clip's key")
    parser.add_argument("--why", default="", help="goes into the corpus' statement")
    arguments = parser.parse_args()
    request = Request(tuple(arguments.source), tuple(arguments.identity), tuple(arguments.clip))
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    removed = take_down(arguments.corpus, request, date=date, why=arguments.why, on_wait=_tell)
    print(
        f"removed {removed.clips} clips, {removed.seconds} s, from {removed.shards} shards of "
        f"{arguments.corpus}"
    )
    return 0


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command.run(main)

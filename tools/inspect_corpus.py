"""Print a corpus' account, and write one HTML page with kept and rejected clips.

python -m tools.inspect_corpus s3://bucket/name|DIR [--page corpus.html]
"""

import argparse
import re
from pathlib import Path

from ausl_dist import command
from ausl_dist.corpus.page import account_text, page, read_account
from ausl_dist.files import write_atomically


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", help="a folder, or s3://bucket/name")
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="where to write the page (default: NAME.html in this folder)",
    )
    arguments = parser.parse_args()
    statement, _ = read_account(arguments.corpus)
    print(account_text(statement))
    target = arguments.page or page_path(statement.get("name"))
    write_atomically(target, page(arguments.corpus))
    print(f"page: {target}")
    return 0


def page_path(name: object) -> Path:
    """Where the page goes unless somebody says: into this folder, whatever the corpus is called."""
    plain = isinstance(name, str) and re.fullmatch(r"\w[\w.-]{0,100}", name)
    return Path(f"{name if plain else 'corpus'}.html")


if __name__ == "__main__":
    command.run(main)

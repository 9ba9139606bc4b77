"""How every command line of the project ends: 0 when done, 2 with one sentence on a user's mistake,
130 on Ctrl-C.
"""

import sys
from collections.abc import Callable


def run(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit; ValueError and OSError are for people, anything else keeps
    its traceback.
    """
    try:
        sys.exit(main() or 0)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)

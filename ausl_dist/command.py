"""How every command line of the project ends: 0 when done, 2 with one sentence on a user's
mistake, 1 with a traceback on a fault of the code, 130 on Ctrl-C.

Secrets that were typed are refused before anything is done, and nothing repeats them.
"""

import sys
import threading
import traceback
from collections.abc import Callable

from ausl_dist.addresses import masked, masked_traceback, refuse_secrets


def run(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit; ValueError and OSError are for people, anything else
    keeps its traceback.
    """
    mask_threads()
    try:
        refuse_secrets(sys.argv[1:])
        sys.exit(main() or 0)
    except (ValueError, OSError) as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        sys.exit(2)
    except Exception:  # noqa: BLE001 - ends the process, as it would without being caught
        print(masked_traceback(), end="", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def mask_threads() -> None:
    """Threads end with a traceback without secrets, as the process does."""

    def say(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            text = "".join(traceback.format_exception(ended.exc_value))
            name = ended.thread.name if ended.thread is not None else "?"
            print(f"in thread {name}:\n{masked(text)}", end="", file=sys.stderr)

    threading.excepthook = say

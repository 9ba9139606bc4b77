"""Programs that are no Python packages: found, or their absence said in the right way.

`tests/run.sh` installs what the tests need where it may (as root, with apt). There a program
that is still missing is a fault of the script, and the test fails; elsewhere the test is
skipped with the sentence that says how to get it.
"""

import os
import shutil
from typing import NoReturn

import pytest

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def program(name: str, package: str) -> str:
    """The path of a program that Debian's `package` brings; fails or skips the test without it."""
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        absent(
            f"no {name} on this machine: apt-get install {package} (as root, after apt-get update)"
        )
    return path


def absent(reason: str) -> NoReturn:
    """Fail the test where the script had to install what is missing, skip it elsewhere."""
    if os.environ.get("AUSL_SERVERS_INSTALLED"):
        pytest.fail(f"{reason}; tests/run.sh should have installed it: see .venv/apt.log")
    pytest.skip(reason)

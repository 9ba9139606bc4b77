"""What is known of a corpus that is not there yet: whether somebody is at it, and how far.

URL ──▶ .build/*/ of a folder, the cache's work of a URL, parts/NNN/ ──▶ one sentence
"""

import fcntl
import hashlib
from pathlib import Path

from ausl_dist.corpus.parts import parts_done
from ausl_dist.corpus.workspace import LOCK_NAME, RECORD_NAME, RESULTS_FOLDER, WORK_FOLDER
from ausl_dist.faces.models import cache_folder
from ausl_dist.files import as_ours, read_json
from ausl_dist.shards import storage
from ausl_dist.shards.publish import STATEMENT_NAME


def work_folder(out: str, part: int = 0, parts: int = 1) -> Path:
    """Where a build keeps its unfinished work, unless somebody names another place."""
    name = "build" if parts == 1 else f"part-{part:03d}-of-{parts:03d}"
    return _work_folders(out) / name


def unfinished(url: str) -> str:
    """A sentence on the build that is not done at `url`; empty where none is known.

    Known are builds in a folder, those of this machine, and the finished parts of many.
    """
    if storage.exists(storage.join(url, STATEMENT_NAME)):
        return ""
    works = sorted(path.parent for path in _work_folders(url).glob(f"*/{RECORD_NAME}"))
    parts, total = parts_done(url)
    if total > 1:
        return f"a build is not finished there: {parts} of its {total} parts are done" + (
            f"; of {works[0].name} here {_progress(works[0])}" if works else ""
        )
    return f"a build is not finished there: {_progress(works[0])}" if works else ""


def refuse_unfinished(url: str) -> None:
    """Raise ValueError where a build at `url` is not done."""
    if said := unfinished(url):
        raise ValueError(f"{url}: {said}")


def _progress(work: Path) -> str:
    with as_ours(RECORD_NAME):
        record = read_json(work / RECORD_NAME)
        sources = len(range(record["sources"])[record["part"] :: record["parts"]])
    done = len(list((work / RESULTS_FOLDER).glob("*.json")))
    state = (
        "it is under way; wait for it"
        if _is_held(work / LOCK_NAME)
        else "no process of this machine is at it; the same tools.build_corpus command goes on"
    )
    return f"{done} of {sources} sources are done, and {state}"


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _work_folders(out: str) -> Path:
    if "://" not in out:
        return Path(out) / WORK_FOLDER
    name = hashlib.sha256(out.rstrip("/").encode()).hexdigest()[:16]
    return cache_folder().parent / "builds" / name

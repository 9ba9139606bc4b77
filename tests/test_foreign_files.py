"""What tools show of corpora, checkpoints and runs that somebody else made: whatever stands in
their files, it is shown or refused with a sentence.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ausl_dist.corpus.page import account_text, page, read_account
from ausl_dist.evaluate.reproduce import reproduce
from ausl_dist.files import write_json
from ausl_dist.release.run import open_run
from ausl_dist.run_folder import manifest_text
from ausl_dist.shards.publish import publish
from tests.support.corpora import make_corpus
from tests.support.fuzz import fuzz, inputs, patience
from tests.support.run_folders import checkpoint_of, complete, make_run
from tools import report
from tools.inspect_checkpoint import tell
from tools.inspect_corpus import page_path

pytestmark = patience


def write_report(run: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["report", str(run)])
        report.main()


STEP = {
    "step": 0,
    "attempt": 0,
    "time": 10.0,
    "clips": 4,
    "frames": 20,
    "loss": 0.6444267332553864,
    "learning_rate": 0.001,
    "gradient_norm": 31.58067512512207,
    "skipped": False,
    "logs": {"ranking/loss": 0.5},
    "seconds": {
        "data": 0.1,
        "forward": 0.1,
        "backward": 0.1,
        "reduce": 0.1,
        "optimizer": 0.1,
        "teacher": 0.1,
        "save": 0.1,
        "total": 0.1,
    },
    "blocked": {"fetch": 0.519885, "decode": 0.506792, "augment": 0.064492},
    "counts": {
        "corrupt": {},
        "retried": {},
        "clips": 6,
        "frames": 30,
        "bytes": 219136,
        "chunks": 1,
    },
    "useful_seconds": 0.313,
    "first_start": 1.0,
}
STATE = {
    "step": 7,
    "attempt": 1,
    "world_size": 2,
    "seed": 0,
    "parameters": {"a": [3, 4], "b": [2]},
    "optimizer_kind": "adamw",
    "order_version": 1,
    "lanes": 2,
    "clips_per_lane": 2,
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path, name="small_conv")
    write_json(checkpoint_of(folder) / "state.json", STATE)
    complete(checkpoint_of(folder))
    line = '{"step": 1, "corpus": "main", "place": 0, "clip": 3, "reason": "decode"}'
    (folder / "ledger.jsonl").write_text(f"{line}\n{line}\n")
    steps = [json.dumps({**STEP, "step": step}) for step in range(3)]
    (folder / "metrics.jsonl").write_text("\n".join([*steps, ""]))
    (folder / "online.jsonl").write_text('{"step": 7, "probe_icc": 0.25, "seconds": 1.0}\n')
    return folder


def test_any_account_of_a_corpus_is_shown_or_refused(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path, clips=2, frames=4, size=32)
    publish(folder, str(folder), name="drawn")
    line = {"source": "a.mp4", "reason": "no_face", "start_second": 0.0, "seconds": 1.0}
    write_json(folder / "ledger.jsonl", line)
    (folder / "ledger.jsonl").write_text(str(line).replace("'", '"') + "\n")

    def read() -> None:
        account_text(read_account(str(folder))[0])

    page(str(folder))
    files = [folder / "corpus.json", folder / "ledger.jsonl"]
    assert sum(1 for _ in fuzz(files, read, inputs(100))) == inputs(100)
    pages = inputs(5)
    assert sum(1 for _ in fuzz(files, lambda: page(str(folder)), pages)) == pages


@pytest.mark.parametrize("name", ["../../home/a", "/etc/a", "a/b", "", None, 7, "..", "a\0"])
def test_the_page_of_a_corpus_goes_nowhere_else(name: object) -> None:
    assert page_path(name) == Path("corpus.html")
    assert page_path("drawn-1.2") == Path("drawn-1.2.html")


def test_any_state_of_a_checkpoint_is_told_or_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(run)
    (checkpoint / "backbone.safetensors").write_bytes(b"small")

    def read() -> None:
        complete(checkpoint)  # as somebody would who changed it on purpose
        tell(checkpoint)
        capsys.readouterr()

    read()
    for _ in fuzz([checkpoint / "state.json"], read, inputs(100)):
        pass


def test_any_manifest_is_told_or_refused(run: Path) -> None:
    checkpoint = checkpoint_of(run)
    for files in ({"a": {"bytes": 2, "sha256": "0", "more": []}}, {}, {"a": 1}):
        (checkpoint / "manifest.json").write_text(manifest_text(7, files))
        with contextlib.suppress(ValueError):
            tell(checkpoint)


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("record.json", lambda run: open_run(run)),
        ("ledger.jsonl", lambda run: open_run(run).data_summary()),
        ("online.jsonl", lambda run: open_run(run, "best")),
        ("metrics.jsonl", write_report),
        ("ledger.jsonl", write_report),
    ],
)
def test_any_file_of_a_run_is_used_or_refused(
    file: str, read: Callable[[Path], object], run: Path
) -> None:
    read(run)
    for _ in fuzz([run / file], lambda: read(run), inputs(25)):
        pass


def test_any_report_of_a_bundle_is_run_again_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation" / "disfa" / "report.json"
    for made in ({}, [], 1, {"settings": 1}, {"settings": {}, "corpus": {}, "kind": "a"}):
        write_json(path, made)
        with pytest.raises(ValueError, match="report"):
            list(reproduce(tmp_path))

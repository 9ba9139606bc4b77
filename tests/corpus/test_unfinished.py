"""A corpus that is being built says so to whoever looks at it before it is there."""

from pathlib import Path
from types import ModuleType

import pytest

from ausl_dist.corpus.books import Books
from ausl_dist.corpus.page import read_account
from ausl_dist.corpus.parts import BuildPart, publish_part
from ausl_dist.corpus.unfinished import refuse_unfinished, unfinished, work_folder
from ausl_dist.corpus.workspace import RESULTS_FOLDER, held
from ausl_dist.shards.publish import Tally, publish
from tests.support.corpora import make_corpus
from tools import index_shards, inspect_corpus

WANTED = {"build": "x", "part": 0, "parts": 1, "sources": 5, "settings": {}}


def begin(out: str, **differing: object) -> Path:
    """Leave what a build that was killed leaves: two of five sources done."""
    wanted = WANTED | differing
    work = work_folder(out, int(str(wanted["part"])), int(str(wanted["parts"])))
    with held(work, out) as space:
        space.claim(wanted)
        (work / RESULTS_FOLDER).mkdir()
        for number in (0, 1):
            (work / RESULTS_FOLDER / f"{number:08d}.json").touch()
    return work


def publish_first_of(out: str, parts: int) -> None:
    publish_part(out, BuildPart("x", 0, parts, Books(25.0), Tally()), [], [])


def test_a_build_in_a_folder_is_named_with_how_far_it_is(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert unfinished(out) == ""
    work = begin(out)
    assert "2 of 5 sources are done" in unfinished(out)
    assert "the same tools.build_corpus command goes on" in unfinished(out)
    with held(work, out):
        assert "it is under way; wait for it" in unfinished(out)
    with pytest.raises(ValueError, match="a build is not finished there: 2 of 5"):
        read_account(out)


def test_a_build_for_an_object_store_is_known_by_the_work_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = "memory://corpus-not-there/name"
    begin(out)
    assert "2 of 5 sources are done" in unfinished(f"{out}/")


def test_parts_that_are_done_are_counted(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    publish_first_of(out, 3)
    assert unfinished(out) == "a build is not finished there: 1 of its 3 parts are done"
    begin(out, part=1, parts=3)
    assert "of part-001-of-003 here 2 of 2 sources" in unfinished(out)


def test_a_corpus_that_is_there_is_not_unfinished(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    publish(corpus, str(corpus), name="drawn")
    begin(str(corpus))  # another build's leftover
    refuse_unfinished(str(corpus))


@pytest.mark.parametrize("tool", [inspect_corpus, index_shards])
def test_both_tools_answer_with_that_sentence(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(str(tmp_path))
    monkeypatch.setattr("sys.argv", ["tool", str(tmp_path)])
    with pytest.raises(ValueError, match="2 of 5 sources are done"):
        tool.main()

"""A take-down that somebody left unfinished at the URL: what it names is deleted."""

from pathlib import Path

import pytest

from ausl_dist.corpus.takedown import PLAN_NAME, Request, take_down
from ausl_dist.files import write_json
from ausl_dist.shards.publish import Tally, publish
from tests.support.corpora import make_corpus

PLAN = {"asked": {}, "affected": {}, "ledger": [], "tally": vars(Tally())}


@pytest.mark.parametrize(
    "plan",
    [
        [],
        {},
        {**PLAN, "affected": 1},
        {**PLAN, "affected": {"shard-000000.tar": 1}},
        {**PLAN, "affected": {"../thesis": []}},
        {**PLAN, "affected": {"../thesis/a.tar": []}},
        {**PLAN, "affected": {"index.json": []}},
        {**PLAN, "ledger": [1]},
        {**PLAN, "tally": {}},
    ],
)
def test_a_plan_that_is_none_of_ours_deletes_nothing(tmp_path: Path, plan: object) -> None:
    folder = make_corpus(tmp_path / "corpus", clips=2, frames=4, size=32)
    publish(folder, str(folder), name="drawn")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tar").write_text("years of work")
    write_json(folder / PLAN_NAME, plan)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"takedown\.json"):
        take_down(str(folder), Request(sources=("a",)), date="2026-01-01")
    assert sorted(tmp_path.rglob("*")) == before

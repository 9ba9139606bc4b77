"""What `doctor` finds wrong before a job is started."""

from dataclasses import replace
from pathlib import Path

import pytest

from launch import left_out
from launch.checks import Examination
from launch.cluster import SlurmCluster, read_settings
from launch.compose import compose
from launch.corpus import part_commands
from launch.doctor import _merge, unfit_hosts
from launch.findings import Finding, run_checks
from tests.support.corpora import make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), clips=8, frames=20, size=48)


def examination(corpus: object, scratch: Path, *overrides: str) -> Examination:
    words = [
        *(
            "name=doctor",
            f"folder={scratch / 'run'}",
            "steps=10",
            f"data.corpora.main.url={corpus}",
            "data.lanes=4",
        ),
        *(
            "data.clips_per_lane=2",
            "data.image_size=32",
            "data.shuffle_window=8",
            "backbone=resnet10t",
        ),
        *("objectives.temporal_ranking.n_far=2", "observe=off"),
    ]
    return Examination(compose([*words, *overrides]), scratch)


def examine(corpus: object, scratch: Path, *overrides: str) -> dict[str, Finding]:
    checks = examination(corpus, scratch, *overrides).checks()
    return {finding.name: finding for finding in run_checks(checks)}


def test_a_sound_run_passes_every_check(corpus: Path, tmp_path: Path) -> None:
    findings = examine(corpus, tmp_path)
    assert [finding for finding in findings.values() if not finding.good] == []
    assert "not checked" in findings["scheduler"].text
    assert "yes" in findings["decode: pyav"].text
    assert "right frames" in findings["decode: dali on the CPU"].text
    assert "on-node" in findings["decode: dali with NVDEC"].text
    assert "data.device=cpu data.decoder=pyav" in findings["decoder"].text


def test_a_run_whose_objective_has_a_teacher_is_tried_with_one(
    corpus: Path, tmp_path: Path
) -> None:
    words = [f"objectives.temporal_contrast.{name}=3" for name in ("frames", "stride")]
    tried = examination(corpus, tmp_path, "mixture.temporal_contrast=1", *words)
    assert tried.model.needs_teacher
    assert "M weights" in tried.step()


def test_a_decoder_that_the_corpus_refuses_is_told_with_what_to_type(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "h264", clips=8, frames=20, size=48, codec="h264")
    finding = examine(corpus, tmp_path, "data.decoder=dali")["decoder"]
    assert not finding.good
    assert "h264" in finding.text
    assert "type data.decoder=pyav" in finding.text


def test_lanes_that_cannot_be_dealt_to_the_ranks_are_told_with_what_to_type(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="use one of 1, 2, 4 ranks"):
        examine(corpus, tmp_path, "cluster.ranks=3")


def test_a_corpus_too_small_for_the_lanes_is_told_before_the_run_meets_it(
    corpus: Path, tmp_path: Path
) -> None:
    few = make_corpus(tmp_path / "few", clips=2, frames=20, size=48)
    second = examination(corpus, tmp_path, f"data.corpora.second.url={few}")
    with pytest.raises(ValueError, match=r"corpus second has 2 clips, fewer than data.lanes=4"):
        second.lanes()


def test_a_corpus_that_is_not_there_is_told(tmp_path: Path) -> None:
    findings = examine(tmp_path / "nowhere", tmp_path)
    assert not findings["corpus index"].good
    assert "nowhere" in findings["corpus index"].text
    assert findings["packages"].good, "one failure must not hide what else is right"


def test_a_damaged_chunk_is_found_before_the_run_meets_it(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", clips=4, frames=20, size=48)
    shard = next(corpus.glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    assert not examine(corpus, tmp_path)["one chunk"].good


def test_a_check_that_fails_on_one_node_names_the_node() -> None:
    good = {
        "host": "a",
        "clock": 10.0,
        "rows": [{"name": "node: data", "good": True, "text": "fine"}],
    }
    bad = {
        "host": "b",
        "clock": 13.0,
        "rows": [{"name": "node: data", "good": False, "text": "no route"}],
    }
    findings = {finding.name: finding for finding in _merge([good, bad], ranks=3)}
    assert findings["node: data"] == Finding("node: data", False, "on b: no route")
    assert not findings["ranks that reported"].good
    assert not findings["clocks of the nodes"].good


def test_a_corpus_is_shared_out_over_an_array() -> None:
    commands = part_commands(["/videos", "--out", "s3://b/faces"], 3, 8)
    assert [command[-1] for command in commands] == ["0/3", "1/3", "2/3"]
    assert all("--workers 8" in " ".join(command) for command in commands)
    for words in (["/videos"], ["/videos", "--out"]):
        with pytest.raises(ValueError, match="--out"):
            part_commands(words, 3, 8)
    assert str(Path("new").resolve()) in part_commands(["/videos", "--out", "new"], 3, 8)[0], (
        "jobs run in another folder"
    )
    with pytest.raises(ValueError, match="--part is set"):
        part_commands(["/videos", "--out", "x", "--part", "0/2"], 3, 8)


def rank_result(host: str, teraflops: float, health: str = "") -> dict[str, object]:
    row = {"name": "node: GPU health", "good": not health, "text": health or "no faults"}
    return {"host": host, "clock": 0.0, "teraflops": teraflops, "rows": [row]}


def test_sick_and_slow_nodes_are_named_and_left_out_if_asked(tmp_path: Path) -> None:
    results = [
        rank_result("node1", 50.0),
        rank_result("node2", 30.0),
        rank_result("node3", 49.0, "GPU 2: Xid 79 (GPU has fallen off the bus)"),
        rank_result("node4", 51.0),
    ]
    unfit = unfit_hosts(results)
    assert unfit["node1"] is None
    assert unfit["node2"] == "computes at 61% of the speed of the others"
    assert "Xid 79" in (unfit["node3"] or "")
    assert list(left_out.note(tmp_path, unfit)) == ["node2", "node3"]
    words = {"scheduler": "slurm", "nodes": 1, "ranks_per_node": 1, "cpus_per_rank": 1}
    asked = read_settings(
        {**words, "time_minutes": 60, "exclude": "old", "leave_out_unfit": True}
    )
    assert isinstance(asked, SlurmCluster)
    assert left_out.leave_out(asked, tmp_path).exclude == "old,node2,node3"
    unasked = replace(asked, leave_out_unfit=False)
    assert left_out.leave_out(unasked, tmp_path).exclude == "old"
    # looked at again, and well: it comes back
    assert list(left_out.note(tmp_path, {"node2": None})) == ["node3"]

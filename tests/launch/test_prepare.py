"""Run folders, and where a run may go on."""

from pathlib import Path

import pytest
import yaml

from ausl_dist.files import write_json
from ausl_dist.run_folder import MANIFEST_FILE, checkpoint_folder, manifest_text
from launch.cluster import local_only, read_settings, slurm_only
from launch.compose import Composed, choices, compose, compose_cluster
from launch.prepare import change_cluster, done_already, prepare, read_cluster, read_name
from tests.support.corpora import make_corpus

# a corpus that only the nodes of a cluster see
BASE = ["name=first", "steps=10", "data.corpora.main.url=/corpus", "cluster=slurm_cpu"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return prepare(compose([*BASE, f"folder={tmp_path / 'run'}"]))


@pytest.mark.parametrize("name", choices("cluster"))
def test_every_cluster_file_can_be_used(name: str) -> None:
    assert read_settings(compose_cluster(f"cluster={name}")).ranks >= 1


def test_an_unknown_cluster_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean cluster=slurm"):
        compose_cluster("cluster=slurmm")


def test_the_verbs_refuse_the_wrong_kind_of_cluster_with_the_right_verb() -> None:
    with pytest.raises(ValueError, match="python -m launch submit"):
        local_only(compose_cluster("cluster=slurm"), "run")
    with pytest.raises(ValueError, match="add cluster=slurm"):
        slurm_only(compose_cluster("cluster=local"), "submit")


def test_a_run_goes_on_elsewhere_with_the_same_config(run: Path) -> None:
    before = (run / "config.yaml").read_text()
    changed = change_cluster(run, ["cluster.nodes=4", "cluster.partition=long"])
    assert (changed["nodes"], changed["partition"]) == (4, "long")
    assert read_cluster(run) == changed
    assert change_cluster(run, ["cluster=local", "cluster.ranks=1"]) == {
        "scheduler": "local",
        "ranks": 1,
    }
    assert (run / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=3", "seed=3: a run goes on with its own config"),
        ("cluster.nodez=4", "did you mean cluster.nodes"),
        ("cluster.nodes=0", "nodes=0"),
    ],
)
def test_what_may_not_change_is_refused_and_nothing_is_written(
    run: Path, override: str, said: str
) -> None:
    before = read_cluster(run)
    with pytest.raises(ValueError, match=said):
        change_cluster(run, [override])
    assert read_cluster(run) == before


def test_another_config_in_the_same_folder_is_refused(run: Path) -> None:
    other = compose([*BASE, "seed=1", f"folder={run}"])
    with pytest.raises(
        ValueError, match=f"there `seed: 0`, here `seed: 1`.*launch resume {run}"
    ):
        prepare(other)
    assert read_name(run) == "first"


def test_the_same_config_goes_on_in_its_folder(run: Path) -> None:
    assert prepare(compose([*BASE, f"folder={run}", "cluster.nodes=1"])) == run
    assert read_cluster(run)["nodes"] == 1


def test_a_config_of_older_code_is_the_same_where_it_only_lacks_defaults(run: Path) -> None:
    stored = yaml.safe_load((run / "config.yaml").read_text())
    del stored["rewind"], stored["objectives"]["temporal_ranking"]["margin"]
    stored["objectives"]["temporal_ranking"]["view"]["_target_"] = "ausl_dist.batch.View"
    (run / "config.yaml").write_text(yaml.safe_dump(stored, sort_keys=False))
    assert prepare(compose([*BASE, f"folder={run}"])) == run


def test_the_folder_may_be_given_relative_to_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    composed = compose([*BASE, "folder=runs/x"])
    assert (
        prepare(Composed(run=composed.run, cluster=composed.cluster)) == tmp_path / "runs" / "x"
    )


def test_a_corpus_that_a_run_cannot_use_is_told_before_anything_is_written(
    tmp_path: Path,
) -> None:
    make_corpus(tmp_path / "corpus", clips=3, frames=4)
    (tmp_path / "empty").mkdir()

    def refusal(*words: str) -> str:
        with pytest.raises((ValueError, OSError)) as refused:
            prepare(compose([*BASE, f"folder={tmp_path / 'run'}", *words]))
        assert not (tmp_path / "run").exists()
        return str(refused.value)

    small, empty = (f"data.corpora.main.url={tmp_path / name}" for name in ("corpus", "empty"))
    assert "3 clips, fewer than data.lanes=16; lower batch.clips" in refusal(small)
    assert "tools.index_shards" in refusal(empty)
    # where the ranks are processes of this machine, nobody else sees the folder
    assert "/corpus/index.json" in refusal("cluster=local")
    prepare(compose([*BASE, f"folder={tmp_path / 'run'}", small, "batch.clips=2"]))


def test_a_run_with_nothing_left_to_do_is_not_started(run: Path) -> None:
    def ended(how: str) -> str:
        write_json(run / "record.json", {"starts": [{"ended": {"how": how, "step": 10}}]})
        return done_already(run)

    assert not done_already(run)  # never started
    assert not ended("done")  # its last checkpoint is gone
    last = checkpoint_folder(run, 10)
    last.mkdir(parents=True)
    (last / MANIFEST_FILE).write_text(manifest_text(10, {}))
    assert "has done all of its 10 steps, so nothing is started" in ended("done")
    assert not ended("asked to stop")
    assert not ended("ValueError: bad")

"""What is asked of Slurm reaches it whatever happens to the job meanwhile."""

from pathlib import Path

import pytest

from launch import scheduler


def test_a_command_outlives_the_signals_that_end_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slurm signals every process of a job that it requeues: this scontrol is hit while it
    # excludes a host.
    said = tmp_path / "said"
    (tmp_path / "scontrol").write_text(
        "#!/bin/sh\n"
        '[ "$1" = --oneliner ] && echo "JobId=7 JobState=RUNNING Restarts=0" && exit\n'
        f'kill -TERM $$; kill -USR2 $$; echo "$@" >> {said}\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert scheduler.requeue("7", 0, exclude=["node3"])
    assert said.read_text().splitlines() == ["requeue 7", "update JobId=7 ExcNodeList=node3"]
    assert not scheduler.requeue("7", 1), (
        "an orphan of an earlier start must leave the job alone"
    )

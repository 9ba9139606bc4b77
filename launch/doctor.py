"""Everything that can fail before a GPU is asked for, checked in about a minute: a table of ✓
and ✗ with what to do for each ✗.

    config ──▶ checks of this machine (checks.py) ──▶ table, exit code
        with --on-node: ──▶ a short job on the real nodes (node_checks.py) ──▶ the same table

A check returns what it found, or raises; an error is the ✗, and its sentence says what to type.
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ausl_dist.files import read_json
from launch.compose import Composed
from launch.findings import Finding, run_checks

UNFIT = (
    "node: health",
    "node: GPU health",
)  # checks that are about the node, not about the run
SLOW_SHARE = 0.8  # of the median rank's speed: in a synchronous step all wait for the slowest
NODE_SECONDS = 600.0  # for the short job to get its turn and end


def examine(composed: Composed, *, on_node: bool) -> int:
    """Check this machine and, with `on_node`, the cluster's; prints the table.

    Returns 0 where all is well, else 1.
    """
    from launch.checks import Examination

    with tempfile.TemporaryDirectory(prefix="ausl-doctor-") as scratch:
        examination = Examination(composed, Path(scratch))
        findings = list(run_checks(examination.checks()))
        rank_bytes = examination.rank_bytes if examination.saved_bytes else 0.0
    if on_node:
        findings += _on_nodes(composed, rank_bytes)
    _print(findings)
    bad = sum(1 for finding in findings if not finding.good)
    print(
        f"{bad} of {len(findings)} checks failed"
        if bad
        else "all is well: `python -m launch submit` with the same words starts it"
    )
    return 1 if bad else 0


def _on_nodes(composed: Composed, rank_bytes: float) -> list[Finding]:
    """Run node_checks.py on the cluster as the run itself would be started, and gather what its
    ranks found.
    """
    from launch import left_out, scheduler, slurm
    from launch.cluster import slurm_only
    from launch.node_checks import NodeChecks

    cluster = slurm_only(composed.cluster, "doctor --on-node")
    run_folder = Path(composed.run["folder"]).expanduser().resolve()
    # Beside the run's own folder: what the nodes see of this disk is one of the questions.
    folder = (
        run_folder.parent / ".doctor" / f"{run_folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    folder.mkdir(parents=True)
    (job,) = slurm.submit(
        [NodeChecks(folder, composed.run, rank_bytes)],
        folder,
        slurm.short(cluster),
        f"doctor-{composed.run['name']}",
    )
    print(
        f"job {job} examines {cluster.nodes} nodes; its log is in {folder / 'slurm'}",
        flush=True,
    )
    deadline = time.monotonic() + NODE_SECONDS
    while (state := scheduler.job_state(job)).alive and time.monotonic() < deadline:
        time.sleep(1.0)
    if state.alive:
        scheduler.cancel([job])
        waited = (
            f"still {state.state} ({state.reason}) after {NODE_SECONDS:.0f} s, cancelled; "
            "see `sinfo`"
        )
        return [Finding("job on the nodes", False, waited)]
    results = [read_json(path) for path in sorted(folder.glob("rank-*.json"))]
    findings = _merge(results, cluster.ranks)
    unfit = left_out.note(folder.parent, unfit_hosts(results))
    if unfit:
        hosts = "; ".join(f"{host}: {why}" for host, why in unfit.items())
        remedy = f"cluster.leave_out_unfit=true, or cluster.exclude={','.join(unfit)}"
        findings.append(Finding("nodes to leave out", False, f"{hosts}. Submit with {remedy}"))
    if state.state != "COMPLETED":
        findings.append(
            Finding(
                "job on the nodes",
                False,
                f"ended as {state.state}; its log is in {folder / 'slurm'}",
            )
        )
    else:
        shutil.rmtree(folder)
    return findings


def _merge(results: list[dict[str, Any]], ranks: int) -> list[Finding]:
    """One row for each check: the worst of all ranks, with the hosts where it failed."""
    findings = [
        Finding("ranks that reported", len(results) == ranks, f"{len(results)} of {ranks}")
    ]
    names = list(dict.fromkeys(row["name"] for result in results for row in result["rows"]))
    for name in names:
        rows = [
            (result["host"], row)
            for result in results
            for row in result["rows"]
            if row["name"] == name
        ]
        bad = [(host, row) for host, row in rows if not row["good"]]
        hosts = ", ".join(dict.fromkeys(host for host, _ in bad))
        findings.append(
            Finding(
                name, not bad, f"on {hosts}: {bad[0][1]['text']}" if bad else rows[0][1]["text"]
            )
        )
    clocks = [result["clock"] for result in results]
    if len(clocks) > 1:
        # All ranks read their clocks when the same barrier let them go.
        skew = max(clocks) - min(clocks)
        remedy = (
            ""
            if skew < 1.0
            else "; let the nodes synchronise (chrony): logs and heartbeats are compared by time"
        )
        findings.append(
            Finding("clocks of the nodes", skew < 1.0, f"{skew * 1000:.0f} ms apart{remedy}")
        )
    return findings


def unfit_hosts(results: list[dict[str, Any]]) -> dict[str, str | None]:
    """Of each host, why a run should do without it, or None: a sick node or GPU, or a slow one."""
    found: dict[str, str | None] = {result["host"]: None for result in results}
    usual = statistics.median(result["teraflops"] for result in results) if results else 0.0
    for result in results:
        sick = [
            row["text"] for row in result["rows"] if row["name"] in UNFIT and not row["good"]
        ]
        if result["teraflops"] < SLOW_SHARE * usual:
            share = result["teraflops"] / usual
            sick.append(f"computes at {share:.0%} of the speed of the others")
        if sick:
            found[result["host"]] = sick[0]
    return found


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(
            "✓" if finding.good else "✗",
            finding.name,
            finding.text,
            style="" if finding.good else "red",
        )
    Console(markup=False).print(table)  # words in brackets are no colours

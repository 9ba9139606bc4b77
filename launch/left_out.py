"""Hosts that a check found unfit, kept beside the runs, for a start that is to leave them out.

doctor --on-node ──▶ RUNS/.doctor/unfit.json ──▶ submit with cluster.leave_out_unfit=true ──▶ --exclude
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ausl_dist.files import read_json, write_json
from launch.cluster import SlurmCluster

FILE = "unfit.json"


def note(folder: Path, examined: Mapping[str, str | None]) -> dict[str, str]:
    """Keep what was found of each host, why or None; a host that is well again is taken off.

    Returns all that are unfit now.
    """
    path = folder / FILE
    known: dict[str, str] = read_json(path) if path.exists() else {}
    known = {host: why for host, why in known.items() if host not in examined}
    known |= {host: why for host, why in examined.items() if why is not None}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, known)
    return known


def leave_out(cluster: SlurmCluster, folder: Path) -> SlurmCluster:
    """The cluster without its unfit hosts, where the settings ask for that."""
    path = folder / FILE
    if not cluster.leave_out_unfit or not path.exists():
        return cluster
    hosts = [*([cluster.exclude] if cluster.exclude else []), *read_json(path)]
    return replace(cluster, exclude=",".join(hosts) or None)

"""Where a run runs: the `cluster` group of the config as checked settings.

`scheduler: local` is this machine; `scheduler: slurm` is a cluster. Each field of the second is
commented in configs/cluster/slurm.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ausl_dist.settings import SettingsError, from_mapping, with_defaults


@dataclass(frozen=True)
class LocalCluster:
    """This machine, one process per rank."""

    scheduler: Literal["local"]
    ranks: int

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ValueError(f"ranks={self.ranks}: at least one rank is needed")


@dataclass(frozen=True)
class SlurmCluster:
    """A job on SLURM: `nodes` hosts with `ranks_per_node` ranks each."""

    scheduler: Literal["slurm"]
    nodes: int
    ranks_per_node: int
    cpus_per_rank: int
    time_minutes: int
    gpus_per_node: int = 0
    memory_gigabytes_per_node: float | None = None
    exclusive: bool = False
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    # hosts that `doctor --on-node` found sick or slow are left out at the next submit
    leave_out_unfit: bool = False
    signal_delay_seconds: int = 180
    stand_by: bool = True  # a second process of each rank, for when the first one fails
    setup: tuple[str, ...] = ()
    # variables of every rank, such as NCCL's
    environment: dict[str, str] = field(default_factory=dict)
    python: str | None = None
    srun_arguments: tuple[str, ...] = ()
    sbatch: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nodes", "ranks_per_node", "cpus_per_rank", "time_minutes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.gpus_per_node and self.gpus_per_node != self.ranks_per_node:
            raise ValueError(
                f"gpus_per_node={self.gpus_per_node} and ranks_per_node={self.ranks_per_node}: "
                "each rank drives one GPU, "
                f"so set cluster.ranks_per_node={self.gpus_per_node}"
            )
        for name in self.environment:
            if not name.isidentifier():
                raise ValueError(f"environment: {name!r} is no name of a variable")
        if self.signal_delay_seconds >= self.time_minutes * 60:
            raise ValueError(
                f"signal_delay_seconds={self.signal_delay_seconds} leaves no time to compute in "
                f"time_minutes={self.time_minutes}; "
                "set a longer cluster.time_minutes"
            )

    @property
    def ranks(self) -> int:
        return self.nodes * self.ranks_per_node


def with_cluster_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `cluster` group with the defaults of its scheduler for all that it leaves out."""
    kind = LocalCluster if values.get("scheduler") == "local" else SlurmCluster
    return with_defaults(kind, values)


def read_settings(values: Mapping[str, Any]) -> LocalCluster | SlurmCluster:
    """Check the `cluster` group; raises SettingsError with what to type instead."""
    scheduler = values.get("scheduler") if isinstance(values, Mapping) else None
    if scheduler == "local":
        return from_mapping(LocalCluster, values, "cluster")
    if scheduler == "slurm":
        return from_mapping(SlurmCluster, values, "cluster")
    raise SettingsError(f"cluster.scheduler must be local or slurm, not {scheduler!r}")


def local_only(values: Mapping[str, Any], what: str) -> LocalCluster:
    """The settings of this machine; a sentence where the config names a scheduler's cluster."""
    settings = read_settings(values)
    if isinstance(settings, LocalCluster):
        return settings
    raise SettingsError(
        f"{what} runs on this machine and the config says cluster.scheduler=slurm; "
        "use `python -m launch submit`"
    )


def slurm_only(values: Mapping[str, Any], what: str) -> SlurmCluster:
    """The settings of a SLURM cluster; a sentence where the config names this machine."""
    settings = read_settings(values)
    if isinstance(settings, SlurmCluster):
        return settings
    raise SettingsError(
        f"{what} needs a SLURM cluster: add cluster=slurm, "
        "or a file of your own in configs/cluster/"
    )

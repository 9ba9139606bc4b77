"""What can be set about observing a run; `configs/observe/` holds the ready-made choices."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ExporterSettings:
    """Where each rank's metrics can be read by Prometheus."""

    enabled: bool = True
    address: str = "127.0.0.1"  # to listen on; 0.0.0.0 where Prometheus runs on another host
    ports: tuple[int, int] = (0, 0)  # first and last port to try; (0, 0) lets the system choose
    advertise: str | None = (
        # host that Prometheus reaches this rank by; left out: the address, or the host name
        # when listening on all
        None
    )
    # file_sd folder, may be shared by many runs; left out: RUN_FOLDER/targets
    discovery_folder: str | None = None
    # targets that no process has refreshed for this long are swept from the discovery folder
    stale_minutes: float = 60.0
    # PEM files; with both certificate and key the exporter speaks TLS
    certificate: str | None = None
    key: str | None = None
    # then only clients with a certificate of this authority are served
    client_ca: str | None = None
    # a file with one line `user:password`; then scrapes need basic auth
    password_file: str | None = None
    # also write ausl-RUN-rank.prom here, for a node exporter's textfile collector
    textfile_folder: str | None = None
    pushgateway: str | None = None  # URL; pushed to once, at the end of the run

    def __post_init__(self) -> None:
        first, last = self.ports
        if not 0 <= first <= last <= 65535 or (first == 0 and last != 0):
            raise ValueError(
                "ports must be [first, last] within 1..65535, or [0, 0] for any free port, "
                f"not {list(self.ports)}"
            )
        if self.stale_minutes < 5:
            raise ValueError(
                "stale_minutes must be at least 5 (a live rank refreshes its target once a "
                f"minute), not {self.stale_minutes}"
            )
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: set both, or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs TLS: set certificate and key too")


@dataclass(frozen=True)
class TrackerSettings:
    """Further places the curves go to; metrics.jsonl in the run folder is always written."""

    every_steps: int = 10
    tensorboard: bool = False  # into RUN_FOLDER/tensorboard
    # Weights & Biases; WANDB_MODE=offline keeps it on this machine
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, not {self.every_steps}")


@dataclass(frozen=True)
class ProfileSettings:
    """A torch profiler trace of a few steps of one rank; can also be asked for later by `touch
    RUN_FOLDER/profile`.
    """

    at_step: int | None = None
    rank: int = 0
    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rank < 0:
            raise ValueError(
                f"profile needs steps >= 1 and rank >= 0, not steps={self.steps}, rank={self.rank}"
            )
        if self.at_step is not None and self.at_step < 1:
            raise ValueError(
                "profile.at_step must be at least 1 (the first step is mostly warming up), "
                f"not {self.at_step}"
            )


@dataclass(frozen=True)
class ObserveSettings:
    """What each rank tells of itself, and where."""

    enabled: bool = True  # false: rank 0 writes metrics.jsonl, and that is all
    exporter: ExporterSettings = field(default_factory=ExporterSettings)
    trackers: TrackerSettings = field(default_factory=TrackerSettings)
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    console: Literal["auto", "live", "plain", "quiet"] = (
        "auto"  # auto: live on a terminal, plain lines elsewhere
    )
    console_seconds: float = 10.0  # between two plain lines
    # between two heartbeats of a rank, which `status` and the report read
    heartbeat_seconds: float = 5.0
    window_steps: int = 64  # rates are taken over this many steps
    # what data.budgets sets: how much of them is used up is a metric
    clip_budgets: dict[str, float] | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.heartbeat_seconds <= 60:
            raise ValueError(
                f"heartbeat_seconds must lie in 0.1..60, not {self.heartbeat_seconds}"
            )
        if self.console_seconds <= 0:
            raise ValueError(f"console_seconds must be above 0, not {self.console_seconds}")
        if self.window_steps < 2:
            raise ValueError(f"window_steps must be at least 2, not {self.window_steps}")

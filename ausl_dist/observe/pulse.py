"""The background thread of a rank: everything that is too slow, or too rarely wanted, for the
training loop.

Every few seconds: memory and disk, requests to profile, the heartbeat, the target's freshness,
the text file, the slowest rank, and clips that could not be used since the last beat.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from ausl_dist.observe import exporter as export
from ausl_dist.observe.device import current_gpu, read_usage
from ausl_dist.observe.heartbeat import (
    Standing,
    heartbeat_of,
    read_heartbeats,
    slowest_rank,
    write_heartbeat,
)
from ausl_dist.observe.metrics import make_registry
from ausl_dist.observe.profiler import Profiler
from ausl_dist.observe.settings import ObserveSettings
from ausl_dist.observe.state import RankState

# rank 0 reads the others' heartbeats; with more ranks than this it does so less often
RANKS_READ_A_BEAT = 64


class SayEvent(Protocol):
    """`Observer.event`."""

    def __call__(self, kind: str, **fields: Any) -> None: ...


class Pulse:
    """Beats until `close`.

    A beat that a disk or a network spoils is said once, and the next one tries again.
    """

    def __init__(
        self,
        settings: ObserveSettings,
        state: RankState,
        run_folder: Path,
        profiler: Profiler,
        event: SayEvent,
        trouble: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._state = state
        self._run_folder = run_folder
        self._profiler = profiler
        self._event, self._trouble = event, trouble
        self._gpu = current_gpu()  # asked here, in the loop's thread
        self._beats = 0
        self._failing: set[str] = set()
        self._told_corrupt: dict[str, int] = {}
        self._labelled: CollectorRegistry | None = None
        self._textfile: Path | None = None
        exporting = settings.exporter
        if exporting.textfile_folder is not None or exporting.pushgateway is not None:
            self._labelled = make_registry(state, state.identity.labels)
        if exporting.textfile_folder is not None:
            self._textfile = export.textfile_path(
                exporting.textfile_folder, run_folder, state.identity
            )
        self.exporter: export.Exporter | None = None
        if exporting.enabled:
            self.exporter = export.Exporter(
                exporting, state.identity, run_folder, make_registry(state)
            )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    def close(self, standing: Standing, error: str) -> None:
        """Stop beating, leave the last heartbeat, push once where asked, and take away what
        only a live rank should show.
        """
        self._end.set()
        # a disk that hangs must not keep the process
        self._thread.join(self._settings.heartbeat_seconds + 10)
        if self.exporter is not None:
            self.exporter.close()
        self._tell_corrupt()
        self._try("heartbeat", lambda: self._write_heartbeat(standing, error))
        gateway = self._settings.exporter.pushgateway
        if gateway is not None and self._labelled is not None:
            registry = make_registry(self._state)
            self._try(
                "push to the Pushgateway",
                lambda: export.push(gateway, registry, self._state.identity),
            )
        if self._textfile is not None:
            self._textfile.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            self._beat()
            if self._end.wait(self._settings.heartbeat_seconds):
                return

    def _beat(self) -> None:
        self._try("reading memory and disk space", self._read_usage)
        self._try("looking for profile requests", self._look_for_profile_request)
        self._try("heartbeat", lambda: self._write_heartbeat("running", ""))
        if self.exporter is not None:
            exporter = self.exporter
            self._try("refreshing the target", lambda: exporter.refresh(self._state.clock()))
        if self._textfile is not None and self._labelled is not None:
            path, registry = self._textfile, self._labelled
            self._try(
                "writing the metrics' text file", lambda: export.write_textfile(path, registry)
            )
        identity = self._state.identity
        if (
            identity.rank == 0
            and self._beats % (1 + identity.world_size // RANKS_READ_A_BEAT) == 0
        ):
            self._try("reading the other ranks' heartbeats", self._find_slowest)
        self._tell_corrupt()
        self._beats += 1

    def _try(self, duty: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, ValueError) as error:
            if duty not in self._failing:
                self._trouble(f"{duty} failed: {error}")
            self._failing.add(duty)
        else:
            self._failing.discard(duty)

    def _read_usage(self) -> None:
        self._state.usage = read_usage(self._run_folder, self._gpu)

    def _look_for_profile_request(self) -> None:
        complaint = self._profiler.look_for_request()
        if complaint:
            self._trouble(complaint)

    def _write_heartbeat(self, standing: Standing, error: str) -> None:
        write_heartbeat(
            self._run_folder,
            heartbeat_of(self._state, standing, self._settings.heartbeat_seconds, error),
        )

    def _find_slowest(self) -> None:
        slowest = slowest_rank(read_heartbeats(self._run_folder))
        self._state.slowest = None if slowest is None else (slowest.rank, slowest.own_seconds)

    def _tell_corrupt(self) -> None:
        counts = {} if self._state.last is None else self._state.last.counts["corrupt"]
        for reason, count in counts.items():
            more = count - self._told_corrupt.get(reason, 0)
            if more > 0:
                self._event("corrupt", reason=reason, clips=more)
        self._told_corrupt = counts

"""Every metric there is, in one table: name, kind, labels, help, and where its value is found.

    RankState ──▶ TABLE ──▶ families in the Prometheus format, made anew for each scrape

A series therefore ends when its source does, and the training loop pays nothing for a metric. A
row's `read` gives a number, a mapping from label value(s) to numbers, or None where there is
nothing to tell. Run, rank, node and attempt are not labels here: the discovery file gives them
to each target.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ausl_dist.observe import readings
from ausl_dist.observe.state import STEP_SECONDS_BUCKETS, RankState
from ausl_dist.run_folder import FIRST_ATTEMPT

UNITS = ("seconds", "bytes", "ratio")  # base units only; a name without one counts things


@dataclass(frozen=True)
class MetricRow:
    """One metric. Counters are named without their `_total`, as the client library has it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: readings.Reader
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The last word of the name, where it is a unit."""
        word = self.name.rsplit("_", 1)[-1]
        return word if word in UNITS else ""

    def family(self, state: RankState, constant: Mapping[str, str]) -> Metric | None:
        """The Prometheus object with this metric's present values, each also labelled with
        `constant`; None without values.
        """
        if self.kind == "histogram":
            return _histogram(self, state, constant)
        reading = self.read(state)
        if reading is None:
            return None
        values: Mapping[Any, float] = reading if isinstance(reading, Mapping) else {(): reading}
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.help, labels=[*constant, *self.labels], unit=self.unit)
        for labels, value in values.items():
            family.add_metric(
                [*constant.values(), *((labels,) if isinstance(labels, str) else labels)], value
            )
        return family if values else None


def _histogram(row: MetricRow, state: RankState, constant: Mapping[str, str]) -> Metric:
    family = HistogramMetricFamily(row.name, row.help, labels=list(constant), unit=row.unit)
    bounds = [*map(str, STEP_SECONDS_BUCKETS), "+Inf"]
    counts = list(accumulate(state.step_buckets))
    family.add_metric(
        list(constant.values()), list(zip(bounds, counts, strict=True)), state.total_seconds
    )
    return family


TABLE: tuple[MetricRow, ...] = (
    # progress
    MetricRow("ausl_steps", "counter", "Steps taken by this process.", lambda s: s.steps),
    MetricRow(
        "ausl_steps_skipped",
        "counter",
        "Steps whose batch the optimizer left out because something was not finite.",
        lambda s: s.skipped,
    ),
    MetricRow("ausl_clips", "counter", "Clips trained on by this rank.", lambda s: s.clips),
    MetricRow("ausl_frames", "counter", "Frames trained on by this rank.", lambda s: s.frames),
    MetricRow(
        "ausl_run_steps_done",
        "gauge",
        "Steps of the run that are done.",
        lambda s: s.steps_done,
    ),
    MetricRow(
        "ausl_run_steps_planned", "gauge", "Steps of the run in all.", lambda s: s.total_steps
    ),
    MetricRow(
        "ausl_run_restarts",
        "gauge",
        "How often the run has been started again.",
        lambda s: s.identity.attempt - FIRST_ATTEMPT,
    ),
    MetricRow("ausl_run_ranks", "gauge", "Ranks of the run.", lambda s: s.identity.world_size),
    MetricRow(
        "ausl_last_step_timestamp_seconds",
        "gauge",
        "When the last step ended (at first, the start), Unix time.",
        lambda s: s.last_at,
    ),
    # time
    MetricRow("ausl_step_seconds", "histogram", "Length of a step.", lambda s: None),
    MetricRow(
        "ausl_phase_seconds",
        "counter",
        "Time of finished steps by what the loop was doing.",
        lambda s: dict(s.phase_seconds),
        ("phase",),
    ),
    MetricRow(
        "ausl_phase_age_seconds",
        "gauge",
        "For how long the loop has been doing what it does now.",
        readings.phase_age,
        ("phase",),
    ),
    MetricRow(
        "ausl_stage_blocked_seconds",
        "counter",
        "Time each data stage kept the next one waiting.",
        readings.blocked_seconds,
        ("stage",),
    ),
    MetricRow(
        "ausl_waited_seconds",
        "counter",
        "Time in collectives: waiting for other ranks, and moving data.",
        lambda s: s.waited_seconds,
    ),
    MetricRow(
        "ausl_data_blocked_ratio",
        "gauge",
        "Share of the last steps' time spent waiting for data.",
        lambda s: s.window.share("data"),
    ),
    MetricRow(
        "ausl_rank_own_seconds",
        "gauge",
        "Median length of a step but for waiting for other ranks.",
        lambda s: s.window.own_seconds,
    ),
    MetricRow(
        "ausl_rank_step_seconds",
        "gauge",
        "Median length of the last steps.",
        lambda s: s.window.step_seconds,
    ),
    MetricRow(
        "ausl_slowest_rank",
        "gauge",
        "Rank with the most own time a step, found by rank 0.",
        lambda s: s.slowest and s.slowest[0],
    ),
    MetricRow(
        "ausl_slowest_rank_own_seconds",
        "gauge",
        "That rank's own time a step.",
        lambda s: s.slowest and s.slowest[1],
    ),
    MetricRow(
        "ausl_clips_per_second",
        "gauge",
        "Clips a second of this rank, by the median step.",
        lambda s: s.window.clips_per_second,
    ),
    MetricRow(
        "ausl_frames_per_second",
        "gauge",
        "Frames a second of this rank, by the median step.",
        lambda s: s.window.frames_per_second,
    ),
    MetricRow(
        "ausl_goodput_ratio",
        "gauge",
        "Share of the run's wall time spent computing steps that count.",
        lambda s: s.goodput,
    ),
    MetricRow(
        "ausl_mfu_ratio",
        "gauge",
        "Model FLOPs a second over the device's peak.",
        readings.of_logs("mfu"),
    ),
    MetricRow(
        "ausl_gpu_starved_ratio",
        "gauge",
        "Share of time the GPU had no work of ours, by CUDA events.",
        lambda s: s.gpu_starved,
    ),
    # data
    MetricRow(
        "ausl_fetched_bytes", "counter", "Bytes read from storage.", readings.of_loader("bytes")
    ),
    MetricRow(
        "ausl_cache_hits",
        "counter",
        "Chunks found in the cache on local disk.",
        readings.of_loader("cache_hits"),
    ),
    MetricRow(
        "ausl_cache_failures",
        "counter",
        "Disk caches given up because their disk was full or failed.",
        readings.of_loader("cache_failures"),
    ),
    MetricRow(
        "ausl_fetch_retries",
        "counter",
        "Reads from storage that had to be repeated, by reason.",
        readings.retried_fetches,
        ("reason",),
    ),
    MetricRow(
        "ausl_queue_depth",
        "gauge",
        "Steps in each queue of the loader at the end of the last step.",
        readings.queues,
        ("queue",),
    ),
    MetricRow(
        "ausl_corrupt_clips",
        "counter",
        "Clips that could not be used, by reason.",
        readings.corrupt_clips,
        ("reason",),
    ),
    MetricRow(
        "ausl_corrupt_budget_used_ratio",
        "gauge",
        "Unusable clips over how many there may be.",
        readings.budget_used,
        ("reason",),
    ),
    # learning
    MetricRow(
        "ausl_loss", "gauge", "Summed loss of the last step.", readings.of_last_step("loss")
    ),
    MetricRow(
        "ausl_learning_rate",
        "gauge",
        "Learning rate of the last step.",
        readings.of_last_step("learning_rate"),
    ),
    MetricRow(
        "ausl_gradient_norm",
        "gauge",
        "Norm of the whole gradient, before clipping.",
        readings.of_last_step("gradient_norm"),
    ),
    *(
        MetricRow(
            f"ausl_objective_{what}",
            "gauge",
            text,
            readings.of_each_objective(what),
            ("objective",),
        )
        for what, text in readings.OBJECTIVE_LOGS.items()
    ),
    MetricRow(
        "ausl_objective_value",
        "gauge",
        "Any other number an objective logs.",
        readings.other_logs,
        ("objective", "name"),
    ),
    # faults
    MetricRow(
        "ausl_events",
        "counter",
        "Events by kind, as in the run folder's events.",
        lambda s: dict(s.events),
        ("kind",),
    ),
    MetricRow(
        "ausl_checkpoint_timestamp_seconds",
        "gauge",
        "When the newest checkpoint was done (at first, the start).",
        readings.of_checkpoint("time"),
    ),
    MetricRow(
        "ausl_checkpoint_step",
        "gauge",
        "Steps done at the newest checkpoint.",
        readings.of_checkpoint("step"),
    ),
    MetricRow(
        "ausl_checkpoint_save_seconds",
        "gauge",
        "How long the newest checkpoint took to write.",
        readings.of_checkpoint("seconds"),
    ),
    MetricRow(
        "ausl_checkpoint_bytes",
        "gauge",
        "Size of the newest checkpoint.",
        readings.of_checkpoint("bytes"),
    ),
    # machine
    MetricRow(
        "ausl_host_memory_bytes",
        "gauge",
        "Resident memory of this process.",
        readings.of_usage("host_memory_bytes"),
    ),
    MetricRow(
        "ausl_run_disk_free_bytes",
        "gauge",
        "Free space where the run folder lies.",
        readings.of_usage("disk_free_bytes"),
    ),
    MetricRow(
        "ausl_run_disk_size_bytes",
        "gauge",
        "Size of the disk where the run folder lies.",
        readings.of_usage("disk_size_bytes"),
    ),
    MetricRow(
        "ausl_gpu_memory_allocated_bytes",
        "gauge",
        "GPU memory in use by tensors.",
        readings.of_usage("gpu_allocated_bytes"),
    ),
    MetricRow(
        "ausl_gpu_memory_reserved_bytes",
        "gauge",
        "GPU memory held by torch.",
        readings.of_usage("gpu_reserved_bytes"),
    ),
    MetricRow(
        "ausl_gpu_memory_size_bytes",
        "gauge",
        "GPU memory there is.",
        readings.of_usage("gpu_total_bytes"),
    ),
    MetricRow(
        "ausl_gpu_busy_ratio",
        "gauge",
        "Share of time a kernel ran, by NVML (package nvidia-ml-py).",
        readings.of_usage("gpu_busy"),
    ),
    MetricRow(
        "ausl_gpu_decoder_busy_ratio",
        "gauge",
        "Use of NVDEC, by NVML (package nvidia-ml-py).",
        readings.of_usage("gpu_decoder_busy"),
    ),
    MetricRow(
        "ausl_build_info",
        "gauge",
        "Always 1; the versions are its labels.",
        readings.build,
        ("version", "python", "torch"),
    ),
)


class StateCollector:
    """Gives the client library the families of one rank's state at each scrape."""

    def __init__(self, state: RankState, constant: Mapping[str, str]) -> None:
        self._state = state
        self._constant = constant

    def collect(self) -> Iterable[Metric]:
        for row in TABLE:
            family = row.family(self._state, self._constant)
            if family is not None:
                yield family

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read at registration


def make_registry(
    state: RankState, constant: Mapping[str, str] | None = None
) -> CollectorRegistry:
    """A registry of its own for one rank.

    `constant` labels every sample, for readers that know no target: textfile and push.
    """
    registry = CollectorRegistry()
    registry.register(StateCollector(state, constant or {}))
    return registry

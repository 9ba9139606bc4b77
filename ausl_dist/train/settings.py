"""Everything a run is told, as frozen dataclasses with checks: a run that starts is a run that
fits together.

    RUN_FOLDER/config.yaml ──▶ load_settings ──▶ RunSettings

Each part is one group of `configs/`. Combinations that DeepSpeed would get silently wrong are
refused here, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.observe.settings import ObserveSettings
from ausl_dist.run_folder import CONFIG_FILE
from ausl_dist.settings import SettingsError, from_mapping
from ausl_dist.stream.settings import DataSettings
from ausl_dist.train.config_text import load_config


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer and its learning rate over the run."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 1e-3  # at its height
    schedule: Literal["cosine", "constant"] = "cosine"  # after the warm-up
    warmup_steps: int = 0
    final_share: float = 0.01  # of the learning rate, at the end of a cosine
    weight_decay: float = 0.05  # not on biases, norms and other vectors
    # at the last step, reached along a half cosine; null: the same throughout
    final_weight_decay: float | None = None
    # learning rate of each layer of the backbone over that of the layer after it
    layer_decay: float = 1.0
    # learning rate of the objectives' heads over that of the backbone's last layer
    head_rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)  # adamw, adam
    momentum: float = 0.9  # sgd
    clip_norm: float | None = 1.0  # of the whole gradient; null for no clipping

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")
        if self.warmup_steps < 0 or not 0 <= self.final_share <= 1:
            raise ValueError(
                f"need warmup_steps >= 0 and final_share in [0, 1], not {self.warmup_steps} and "
                f"{self.final_share}"
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(
                f"clip_norm must be above 0, or null for no clipping, not {self.clip_norm}"
            )
        if self.weight_decay < 0 or (self.final_weight_decay or 0.0) < 0:
            raise ValueError(
                f"weight_decay must be at least 0, not {self.weight_decay} to "
                f"{self.final_weight_decay}"
            )
        if not 0 < self.layer_decay <= 1 or self.head_rate <= 0:
            raise ValueError(
                f"need layer_decay in (0, 1] and head_rate above 0, not {self.layer_decay} and "
                f"{self.head_rate}"
            )


@dataclass(frozen=True)
class EngineSettings:
    """How DeepSpeed runs a step."""

    # what is cut up over the ranks: nothing; optimizer; and gradients; and weights
    zero_stage: Literal[0, 1, 2, 3] = 1
    # bf16, fp16: weights too, with fp32 masters in the optimizer. With bf16_autocast and ZeRO 1
    # to 3 gradients of linear and convolution weights are summed over ranks in bf16, others in
    # fp32.
    precision: Literal["fp32", "bf16_autocast", "bf16", "fp16"] = "fp32"
    gradient_accumulation: int = 1  # a rank's part of a batch is run in this many pieces
    offload_optimizer: bool = False  # optimizer and its state in host memory
    compile: bool = False  # torch.compile: a slow first step, faster ones after
    # pictures lie in memory pixel by pixel, not colour by colour: convolutions of a GPU are
    # faster so, those in 16 bits above all
    channels_last: bool = False
    # on a GPU with precision=fp32: products and convolutions with 10 bits of mantissa, several
    # times faster; losses keep their 23 bits
    tf32: bool = False
    # on a GPU: cuDNN tries its algorithms on the first batch and keeps the fastest; which one
    # that is may differ from start to start, and with it the last bits
    cudnn_benchmark: bool = False
    # only operations that give the same bits each time; slower on a GPU, and cudnn_benchmark
    # is left out
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # how long a rank waits for the others inside one collective, after the first step
    collective_timeout_seconds: float = 300.0
    # of the device at this precision, for the MFU; null: by its name, where flops.py knows it
    peak_teraflops: float | None = None

    def __post_init__(self) -> None:
        if self.gradient_accumulation < 1:
            raise ValueError(
                f"gradient_accumulation must be at least 1, not {self.gradient_accumulation}"
            )
        if self.zero_stage == 0 and self.precision in ("bf16", "fp16"):
            raise ValueError(
                f"precision={self.precision} needs zero_stage 1, 2 or 3: "
                "DeepSpeed without ZeRO keeps no exact fp32 masters. "
                "Type precision=bf16_autocast, or zero_stage=1"
            )
        if self.zero_stage == 0 and self.offload_optimizer:
            raise ValueError(
                "offload_optimizer=true needs zero_stage 1, 2 or 3: it is a part of ZeRO"
            )
        if self.tf32 and self.compile and self.precision == "fp32":
            raise ValueError(
                "tf32=true with compile=true and precision=fp32 would compute losses with 10 "
                "bits of mantissa too, since compiled code has one switch for all: "
                "type precision=bf16_autocast, tf32=false, or compile=false"
            )
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError(
                "precision=fp16 needs a GPU: on CPU type precision=bf16_autocast or fp32"
            )
        if self.collective_timeout_seconds < 1:
            raise ValueError(
                "collective_timeout_seconds must be at least 1, "
                f"not {self.collective_timeout_seconds}"
            )
        if self.peak_teraflops is not None and self.peak_teraflops <= 0:
            raise ValueError(
                f"peak_teraflops must be above 0, or null, not {self.peak_teraflops}"
            )


@dataclass(frozen=True)
class CheckpointSettings:
    """When a run saves, and what it keeps."""

    every_steps: int = 1000
    keep_last: int = 3
    keep_every_steps: int | None = None  # checkpoints at multiples of this are kept for good
    keep_best: int = 0  # and so many that the online evaluation scored best
    # where each is copied to as well, such as s3://bucket/NAME; the next save waits for the copy
    upload: str | None = None
    background: bool = True  # write while training goes on; false: training waits for the disk

    def __post_init__(self) -> None:
        if self.every_steps < 1 or self.keep_last < 1:
            raise ValueError(
                f"need every_steps >= 1 and keep_last >= 1, not {self.every_steps} and "
                f"{self.keep_last}"
            )
        if self.keep_best < 0:
            raise ValueError(f"keep_best must be at least 0, not {self.keep_best}")
        if self.keep_every_steps is not None and (
            self.keep_every_steps < 1 or self.keep_every_steps % self.every_steps
        ):
            raise ValueError(
                f"keep_every_steps must be a multiple of every_steps={self.every_steps}, "
                f"not {self.keep_every_steps}"
            )


@dataclass(frozen=True)
class WatchSettings:
    """When a run that makes no progress is ended."""

    # until the first step is done: late ranks, a fetched checkpoint, compiling, filling caches
    startup_timeout_seconds: float = 1800.0
    step_timeout_seconds: float = 600.0  # between two steps afterwards
    # in a row with a loss or gradient that is not finite, before the run goes back
    # (RewindSettings) or ends
    max_bad_steps: int = 20

    def __post_init__(self) -> None:
        if self.startup_timeout_seconds <= 0 or self.step_timeout_seconds <= 0:
            raise ValueError("startup_timeout_seconds and step_timeout_seconds must be above 0")
        if self.max_bad_steps < 1:
            raise ValueError(f"max_bad_steps must be at least 1, not {self.max_bad_steps}")


@dataclass(frozen=True)
class RewindSettings:
    """When training goes back to a checkpoint and leaves out the steps that spoilt it; see
    stability.py.
    """

    # in a run; after that bad steps end it, and spikes of the loss are let be. 0: never
    max_times: int = 3
    # good losses that a loss is compared with; while there are fewer, nothing is a spike
    window_steps: int = 200
    # a loss this many robust standard deviations above the window's median is a spike
    spike_deviations: float = 10.0
    spike_steps: int = 5  # in a row, to go back

    def __post_init__(self) -> None:
        if self.max_times < 0:
            raise ValueError(f"max_times must be at least 0 (never), not {self.max_times}")
        if self.window_steps < 3 or self.spike_steps < 1 or self.spike_deviations <= 0:
            raise ValueError(
                "need window_steps >= 3, spike_steps >= 1 and spike_deviations above 0, "
                f"not {self.window_steps}, {self.spike_steps} and {self.spike_deviations}"
            )


@dataclass(frozen=True)
class OnlineSettings:
    """Evaluation of checkpoints beside the run; see online.py and evaluate/online.py."""

    # labelled shards of a few people who are in no training corpus; null: no evaluation
    corpus: str | None = None
    every_steps: int = 10_000  # which checkpoints: a multiple of checkpoint.every_steps
    frames_per_clip: int = 8
    stride: int = 8  # frames from one of them to the next
    test_share: float = 0.3  # of the people, scored; the others are learnt from
    neighbours: int = 20
    threads: int = 1

    def __post_init__(self) -> None:
        if (
            min(
                self.every_steps,
                self.frames_per_clip,
                self.stride,
                self.neighbours,
                self.threads,
            )
            < 1
        ):
            raise ValueError(
                "every_steps, frames_per_clip, stride, neighbours and threads must be at least 1"
            )
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share must lie between 0 and 1, not {self.test_share}")


@dataclass(frozen=True)
class HealthSettings:
    """When features are looked at for collapse."""

    every_steps: int = 50
    # null: never; a backward pass for each objective: norms of their gradients, and cosines
    gradients_every_steps: int | None = None
    min_effective_rank: float = 2.0  # below it, an objective's embeddings are called collapsed

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, not {self.every_steps}")
        if self.gradients_every_steps is not None and self.gradients_every_steps < 1:
            raise ValueError(
                "gradients_every_steps must be at least 1, or null for never, "
                f"not {self.gradients_every_steps}"
            )


@dataclass(frozen=True)
class RunSettings:
    """One run, whole."""

    name: str
    folder: str
    steps: int
    data: DataSettings
    backbone: BackboneSettings
    objectives: dict[str, Any]  # name -> mapping with _target_ and the objective's own settings
    mixture: dict[str, float]  # name -> weight in the summed loss
    # of running gradient norms; then weights are shares of the pull at the features (balance.py)
    balance_decay: float | None = None
    # weights that change: name -> weight at the end of the ramp
    mixture_final: dict[str, float] = field(default_factory=dict)
    # steps from `mixture` to `mixture_final`, in a straight line; null: the whole run
    mixture_ramp_steps: int | None = None
    # at the last step, reached along a half cosine; null: the same throughout
    teacher_final_momentum: float | None = None
    seed: int = 0
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    observe: ObserveSettings = field(default_factory=ObserveSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    rewind: RewindSettings = field(default_factory=RewindSettings)
    online: OnlineSettings = field(default_factory=OnlineSettings)

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or not self.name.isprintable():
            raise ValueError(f"name must be a word without '/', not {self.name!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not self.objectives:
            raise ValueError(
                "objectives: at least one objective is needed, "
                "for instance mixture=temporal_ranking"
            )
        self._check_mixture()
        self._check_parts()

    def _check_mixture(self) -> None:
        """Objectives, their weights, and how these change."""
        for name, settings in self.objectives.items():
            if not isinstance(settings, Mapping) or "_target_" not in settings:
                raise ValueError(
                    f"objectives.{name} must be a mapping with _target_, "
                    "as the files of configs/objective/ are"
                )
        if set(self.mixture) != set(self.objectives):
            raise ValueError(
                f"mixture must weight the objectives exactly: {sorted(self.objectives)}, "
                f"not {sorted(self.mixture)}"
            )
        if not all(weight >= 0 for weight in self.mixture.values()) or not any(
            self.mixture.values()
        ):
            raise ValueError(
                f"mixture: weights must be at least 0, and one above it, not {self.mixture}"
            )
        strangers = sorted(set(self.mixture_final) - set(self.mixture))
        if strangers or not all(weight >= 0 for weight in self.mixture_final.values()):
            raise ValueError(
                "mixture_final must hold weights of at least 0 of objectives in the mixture, "
                f"not {self.mixture_final}"
            )
        if self.mixture_ramp_steps is not None and self.mixture_ramp_steps < 1:
            raise ValueError(
                "mixture_ramp_steps must be at least 1, or null for the whole run, "
                f"not {self.mixture_ramp_steps}"
            )
        if (
            self.teacher_final_momentum is not None
            and not 0 <= self.teacher_final_momentum <= 1
        ):
            raise ValueError(
                f"teacher_final_momentum must lie in [0, 1], not {self.teacher_final_momentum}"
            )

    def _check_parts(self) -> None:
        """Groups of settings that must fit one another."""
        if self.health.gradients_every_steps is not None and self.engine.zero_stage == 3:
            raise ValueError(
                "health.gradients_every_steps needs whole weights on each rank: "
                "type engine.zero_stage=2, or leave it null"
            )
        if self.optimizer.warmup_steps > self.steps:
            raise ValueError(
                f"optimizer.warmup_steps={self.optimizer.warmup_steps} is more than "
                f"steps={self.steps}"
            )
        if (
            self.online.corpus is not None
            and self.online.every_steps % self.checkpoint.every_steps
        ):
            raise ValueError(
                f"online.every_steps={self.online.every_steps} must be a multiple of "
                f"checkpoint.every_steps={self.checkpoint.every_steps}: "
                "what is evaluated is a checkpoint"
            )
        if self.checkpoint.keep_best and self.online.corpus is None:
            raise ValueError(
                "checkpoint.keep_best needs scores: set online.corpus to a labelled corpus, "
                "or checkpoint.keep_best=0"
            )
        if self.data.image_size != self.backbone.image_size:
            raise ValueError(
                f"backbone.image_size={self.backbone.image_size} is not "
                f"data.image_size={self.data.image_size}: "
                "type backbone.image_size='${data.image_size}'"
            )


def load_settings(run_folder: Path | str) -> RunSettings:
    """Read and check RUN_FOLDER/config.yaml.

    Raises SettingsError naming the setting by its dotted path.
    """
    path = Path(run_folder) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: a run folder is made by the launcher, see launch/README.md"
        )
    written = load_config(path)
    try:
        config: Any = OmegaConf.to_container(OmegaConf.create(written), resolve=True)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    return from_mapping(RunSettings, {str(key): value for key, value in config.items()})

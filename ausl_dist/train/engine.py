"""The engine: one exact step of the joint model over all ranks. The only file that imports
deepspeed.

    batch ──▶ forward ──▶ all ranks agree: finite? ──▶ backward ──▶ gradient finite? ──▶ optimizer ──▶ batch norm averaged over ranks
                                      └─ no: step left out, nothing touched ──────┘

DeepSpeed alone would do silently wrong things in a few combinations; what is done against each is
said where it is done.
"""

import functools
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import distributed_c10d
from torch.nn.modules.batchnorm import _BatchNorm

from ausl_dist.batch import Batch
from ausl_dist.model.joint import JointModel, stored_buffers
from ausl_dist.train.agreement import Report, agree, judge, mean_of
from ausl_dist.train.clock import StepClock, make_clock
from ausl_dist.train.optimizer import make_optimizer, set_values
from ausl_dist.train.settings import EngineSettings, OptimizerSettings
from ausl_dist.train.teacher import Teacher

BUCKET_ELEMENTS = (
    50_000_000  # of gradient or weight buckets; DeepSpeed's default takes 2 GB of memory for each
)


@dataclass(frozen=True)
class Outcome:
    """What came of one step; equal on all ranks except for `seconds` and `embeddings`."""

    loss: float  # of the global batch
    logs: dict[str, float]
    gradient_norm: float  # before clipping; NaN where no backward was run
    # why the step was left out: "loss", "gradient", "no clips"; None for a good step
    bad: str | None
    stop: bool  # some rank has been asked to stop
    seconds: dict[
        str, float
        # forward, backward, reduce (what of summing gradients the backward did not hide),
        # optimizer, teacher
    ]
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """A run of one parameter's elements whose exact value and optimizer state live on this rank;
    tensors are views, 1-d.
    """

    name: str
    offset: int  # of the first element, in the flattened parameter
    master: Tensor
    states: dict[str, Tensor]


def start_ranks(
    settings: EngineSettings, startup_timeout_seconds: float | None = None
) -> torch.device:
    """Join this process to its process group, by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
    MASTER_PORT; returns its device.

    Given a time-out for the start-up, ranks wait so long for each other, here and in collectives,
    until `end_startup`: one may come late, fetch a checkpoint or compile. Without, a collective's
    own time-out holds from the beginning.
    """
    missing = [
        name
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if name not in os.environ
    ]
    if missing:
        raise ValueError(
            f"not started as a rank: {', '.join(missing)} missing from the environment; "
            "start runs with launch/"
        )
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("engine.device=cuda, but torch sees no GPU: type engine.device=cpu")
    cuda = settings.device != "cpu" and torch.cuda.is_available()
    if settings.precision == "fp16" and not cuda:
        raise ValueError("engine.precision=fp16 needs a GPU: type engine.precision=bf16_autocast")
    # read when deepspeed is first imported
    os.environ["DS_ACCELERATOR"] = "cuda" if cuda else "cpu"
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # Of DeepSpeed's way to call collectives: nobody here can do anything about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    # Otherwise compiled at every start where a compiler is found; it hangs on a stale lock and
    # leaks shared memory.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    timeout = timedelta(
        seconds=max(startup_timeout_seconds or 0.0, settings.collective_timeout_seconds)
    )
    _give_new_groups(timeout)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    deepspeed.init_distributed(
        "nccl" if cuda else "gloo", auto_mpi_discovery=False, timeout=timeout, verbose=False
    )
    return device


def end_startup(settings: EngineSettings) -> None:
    """From now on ranks wait for each other no longer than inside one collective, in the groups
    that are there and in new ones.
    """
    timeout = timedelta(seconds=settings.collective_timeout_seconds)
    _give_new_groups(timeout)
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timeout, group)


def _give_new_groups(timeout: timedelta) -> None:
    # DeepSpeed makes its groups without a timeout: they would wait 30 minutes for a dead rank,
    # whatever was set for the first one.
    original: Callable[..., Any] = getattr(dist.new_group, "__wrapped__", dist.new_group)

    @functools.wraps(original)
    def new_group(*arguments: Any, **options: Any) -> Any:
        options.setdefault("timeout", timeout)
        return original(*arguments, **options)

    dist.new_group = new_group


class Engine:
    """A model under DeepSpeed, and the optimizer, at one step of a run.

    The model's weights must be in place, equal on all ranks, before the engine is made: fp32
    masters are taken from them.
    """

    def __init__(
        self,
        model: JointModel,
        settings: EngineSettings,
        optimizer: OptimizerSettings,
        device: torch.device,
    ) -> None:
        import deepspeed

        _refuse(model, settings)
        self.model = model.to(device)
        self._teacher = Teacher(model, device) if model.needs_teacher else None
        model.teacher = self._teacher
        self.device = device
        self.settings = settings
        self._clip_norm = optimizer.clip_norm
        self._parameters = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
        # ZeRO 3 empties the parameters themselves
        self._shapes = {name: list(parameter.shape) for name, parameter in self._parameters}
        self._state_keys = (
            ("momentum_buffer",) if optimizer.kind == "sgd" else ("exp_avg", "exp_avg_sq")
        )
        self._weight_decay = optimizer.weight_decay
        self.optimizer = make_optimizer(model, optimizer)
        config = _deepspeed_config(
            settings, optimizer, sum(parameter.numel() for _, parameter in self._parameters), device
        )
        self._deepspeed = deepspeed.initialize(
            model=model, optimizer=self.optimizer, config=config
        )[0]
        self._clock = make_clock(device)
        self._deepspeed.allreduce_gradients = self._timed(self._deepspeed.allreduce_gradients)
        if settings.compile:
            self._deepspeed.compile()
        self._make_states()

    def train_step(
        self,
        batch: Batch,
        learning_rate: float,
        *,
        weight_decay: float | None = None,
        teacher_momentum: float | None = None,
        stop: bool = False,
    ) -> Outcome:
        """Train on this rank's part of a global batch; `stop` is passed on to all ranks. All ranks
        must call it together.

        Decay and the teacher's momentum are those of the settings and the objectives where none is
        given.
        """
        clock = self._clock
        clock.start()
        set_values(
            self.optimizer,
            learning_rate,
            self._weight_decay if weight_decay is None else weight_decay,
        )
        statistics = self.model.batch_norm_statistics()
        before = [statistic.clone() for statistic in statistics]
        reports, bad, embeddings = self._gradients(batch, stop, clock)
        norm = math.nan
        if bad is None or len(reports) > 1:
            norm, taken = self._optimizer_step(discard=bad is not None)
            bad = bad or (None if taken else "gradient")
        if bad is None:
            _average_over_ranks(statistics)
            clock.lap("optimizer")
            self._teach(teacher_momentum)
            clock.lap("teacher")
        else:
            for statistic, value in zip(statistics, before, strict=True):
                statistic.copy_(value)
        self.model.after_step(bad is None)
        clock.lap("optimizer")
        return Outcome(
            *mean_of(reports),
            norm,
            bad,
            any(report.stop for report in reports),
            clock.seconds(),
            embeddings,
        )

    def _gradients(
        self, batch: Batch, stop: bool, clock: StepClock
    ) -> tuple[list[Report], str | None, Mapping[str, Tensor]]:
        """Forward and backward, piece by piece, up to the first piece that all ranks find bad."""
        reports: list[Report] = []
        pieces = split(batch.to(self.device), self.settings.gradient_accumulation)
        for piece in pieces:
            output = self._deepspeed(piece)
            reports.append(agree(output.loss.detach(), output.logs, len(piece.valid), stop))
            clock.lap("forward")
            last = len(reports) == len(pieces)
            bad = judge(reports, whole=last)
            if bad is None:
                self._backward(output.loss, boundary=last)
            elif len(reports) > 1:
                # Gradients of earlier pieces are in DeepSpeed's hands already: NaN makes its own
                # check throw all of them away.
                self._backward(output.loss * math.nan, boundary=True)
            clock.lap("backward")
            if bad is not None:
                break
        return reports, bad, output.embeddings

    def pieces(self) -> list[Piece]:
        """The masters and optimizer states that live on this rank; the ranks together hold each
        element once (ZeRO 0: each rank all).
        """
        return [
            piece
            for name, parameter in self._parameters
            for piece in self._pieces_of(name, parameter)
        ]

    def pieces_to_save(self) -> list[Piece]:
        """This rank's pieces, or where every rank holds all (ZeRO 0), its share of them: the ranks'
        shares make up the whole.
        """
        pieces = self.pieces()
        return (
            pieces[dist.get_rank() :: dist.get_world_size()]
            if self.settings.zero_stage == 0
            else pieces
        )

    def shapes(self) -> dict[str, list[int]]:
        """The shape of every trained parameter."""
        return self._shapes

    def buffers(self) -> dict[str, Tensor]:
        """The model's buffers that belong to its state, equal on all ranks."""
        return stored_buffers(self.model)

    def scalars(self) -> dict[str, float]:
        """State of the optimizer that is one number for all: Adam's count of steps taken, fp16's
        loss scale.
        """
        states = [self.optimizer.state[flat] for flat in self._flats()]
        values = {"optimizer_steps": float(states[0]["step"])} if "step" in states[0] else {}
        scaler = getattr(self._deepspeed.optimizer, "loss_scaler", None)
        if self.settings.precision == "fp16":
            values |= {name: float(getattr(scaler, name)) for name in _SCALER_STATE}
        return values

    def set_scalars(self, values: Mapping[str, float]) -> None:
        """Put back what `scalars` gave."""
        for flat in self._flats():
            state = self.optimizer.state[flat]
            if "step" in state:
                state["step"].fill_(values["optimizer_steps"])
        if self.settings.precision == "fp16":
            for name in _SCALER_STATE:
                number = values[name]
                setattr(
                    self._deepspeed.optimizer.loss_scaler,
                    name,
                    number if name == "cur_scale" else int(number),
                )

    def release(self) -> None:
        """Take DeepSpeed's hands off the model, so that another engine can be made in this process."""
        self._deepspeed.destroy()

    def close(self) -> None:
        """Leave the process group."""
        self.release()
        if dist.is_initialized():
            dist.destroy_process_group()

    @property
    def teacher(self) -> Teacher | None:
        """The slow copy of the student, where some objective needs one."""
        return self._teacher

    def _teach(self, momentum: float | None) -> None:
        if self._teacher is not None:
            parameters = dict(self._parameters)
            weights = [self._whole(parameters[name]) for name in self._teacher.parameter_names]
            self._teacher.update(weights, dict(self.model.named_buffers()), momentum)

    def _whole(self, parameter: Tensor) -> Tensor:
        """The exact value of a parameter, on every rank."""
        if self.settings.zero_stage < 3 and parameter.dtype == torch.float32:
            return parameter.detach()
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter)

    def _timed(self, reduce: Callable[..., None]) -> Callable[..., None]:
        # DeepSpeed calls it at the end of a backward pass; under ZeRO 2 and 3 gradients are summed
        # on the way, and this is the rest.
        def timed(*arguments: Any, **options: Any) -> None:
            self._clock.lap("backward")
            reduce(*arguments, **options)
            self._clock.lap("reduce")

        return timed

    def _backward(self, loss: Tensor, *, boundary: bool) -> None:
        self._deepspeed.set_gradient_accumulation_boundary(boundary)
        self._deepspeed.backward(loss)

    def _optimizer_step(self, *, discard: bool) -> tuple[float, bool]:
        if self.settings.zero_stage == 0:  # DeepSpeed checks gradients in all stages but this one
            gradients = [
                parameter.grad for _, parameter in self._parameters if parameter.grad is not None
            ]
            total = nn.utils.get_total_norm(gradients)
            if discard or not math.isfinite(total):
                self._deepspeed.zero_grad()
                return float(total), False
            if self._clip_norm is not None:
                nn.utils.clip_grads_with_norm_(
                    [parameter for _, parameter in self._parameters], self._clip_norm, total
                )
            self._deepspeed.step()
            return float(total), True
        self._deepspeed.step()
        norm = self._deepspeed.get_global_grad_norm()
        return math.nan if norm is None else float(norm), not self._deepspeed.optimizer.overflow

    def _flats(self) -> list[Tensor]:
        """The tensors that the optimizer itself updates."""
        zero = self._deepspeed.optimizer
        if self.settings.zero_stage == 0:
            return [parameter for _, parameter in self._parameters]
        return list(
            zero.fp32_partitioned_groups_flat
            if self.settings.zero_stage == 3
            else zero.single_partition_of_fp32_groups
        )

    def _make_states(self) -> None:
        # torch makes optimizer state at the first step; made here, a checkpoint can be read into it
        # before.
        for flat in self._flats():
            state = self.optimizer.state[flat]
            state.update({key: torch.zeros_like(flat) for key in self._state_keys})
            if "exp_avg" in state:
                state["step"] = torch.zeros(
                    (), device=flat.device if self.optimizer.defaults.get("fused") else None
                )

    def _pieces_of(self, name: str, parameter: Tensor) -> Iterator[Piece]:
        zero = self._deepspeed.optimizer
        if self.settings.zero_stage == 0:
            flat, start, length, offset = parameter, 0, parameter.numel(), 0
        elif self.settings.zero_stage == 3:
            group, start, length = zero.grad_position[zero.get_param_id(parameter)]
            flat = zero.fp32_partitioned_groups_flat[group]
            offset = length * dist.get_rank()
            length = min(int(length), int(parameter.ds_numel) - offset)  # type: ignore[attr-defined]
        else:
            mapping = parameter._hp_mapping  # type: ignore[attr-defined]
            if mapping is None:  # all of it lives on other ranks
                return
            flat = zero.single_partition_of_fp32_groups[mapping.param_group_index]
            start, length = mapping.hp_fragment_address.start, mapping.hp_fragment_address.numel
            offset = mapping.lp_fragment_address.start
        if length > 0:
            cut = {
                key: self.optimizer.state[flat][key].detach().view(-1)[start : start + length]
                for key in self._state_keys
            }
            yield Piece(name, int(offset), flat.detach().view(-1)[start : start + length], cut)


_SCALER_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def split(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into `parts` equal runs of clips."""
    if len(batch) % parts:
        raise ValueError(
            f"gradient_accumulation={parts} does not divide the {len(batch)} clips of one rank: "
            "change engine.gradient_accumulation, data.lanes or data.clips_per_lane"
        )
    size = len(batch) // parts
    return [batch] if parts == 1 else [batch.cut(i * size, (i + 1) * size) for i in range(parts)]


def _average_over_ranks(statistics: list[Tensor]) -> None:
    # Each rank's batch norm has seen its own clips: averaged, every rank holds the same model, and
    # a checkpoint needs it once.
    # counts are equal as they are
    statistics = [statistic for statistic in statistics if statistic.is_floating_point()]
    if statistics and dist.get_world_size() > 1:
        flat = torch.cat([statistic.view(-1) for statistic in statistics])
        dist.all_reduce(flat)
        parts = (flat / dist.get_world_size()).split(
            [statistic.numel() for statistic in statistics]
        )
        torch._foreach_copy_(
            statistics, [part.view_as(s) for part, s in zip(parts, statistics, strict=True)]
        )


def _refuse(model: JointModel, settings: EngineSettings) -> None:
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise ValueError(
                f"parameter {name} has no dimension, which ZeRO cannot cut up: "
                "give it the shape (1,)"
            )
    if settings.precision in ("bf16", "fp16") and any(
        isinstance(module, _BatchNorm) for module in model.modules()
    ):
        raise ValueError(
            f"engine.precision={settings.precision} would keep batch norm's statistics in 16 bits, "
            "where they stop moving: "
            "type engine.precision=bf16_autocast, or choose a backbone with layer norm"
        )


def _deepspeed_config(
    settings: EngineSettings, optimizer: OptimizerSettings, num_weights: int, device: torch.device
) -> dict[str, Any]:
    # DeepSpeed wants a multiple of its alignment
    bucket = min(BUCKET_ELEMENTS, -(-num_weights // 1024) * 1024)
    zero: dict[str, Any] = {
        "stage": settings.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": device.type == "cuda",
    }
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device.type == "cuda"}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # wanted, but only used for its own throughput lines
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "gradient_clipping": (optimizer.clip_norm or 0.0)
        if settings.zero_stage
        else 0.0,  # ZeRO 0 is clipped by us
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        # its own CPU Adam would be compiled at the first start
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 60,
    }
    if settings.precision == "bf16_autocast":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    elif settings.precision in ("bf16", "fp16"):
        config[settings.precision] = {"enabled": True}
    return config

"""The engine: one exact step of the joint model over all ranks, by DeepSpeed.

    batch ──▶ forward ──▶ all ranks agree: finite? ──▶ backward ──▶ gradient finite? ──▶ optimizer ──┐
                                      └─ no: step left out, nothing touched ──────┘                  │
                                                        batch norm averaged over ranks, teacher ◀────┘

DeepSpeed alone would do silently wrong things in a few combinations; what is done against each
is said where it is done.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ausl_dist.batch import Batch
from ausl_dist.model.joint import JointModel, stored_buffers
from ausl_dist.train.accumulation import split
from ausl_dist.train.agreement import Report, agree, average_over_ranks, judge, mean_of
from ausl_dist.train.clock import StepClock, make_clock
from ausl_dist.train.deepspeed_config import deepspeed_config, refuse_what_it_cannot
from ausl_dist.train.optimizer import make_optimizer, set_values
from ausl_dist.train.settings import EngineSettings, OptimizerSettings
from ausl_dist.train.teacher import Teacher
from ausl_dist.train.zero_state import ZeroState


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

        refuse_what_it_cannot(model, settings)
        self.model = model.to(device)
        model.backbone.channels_last = settings.channels_last
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
        self._weight_decay = optimizer.weight_decay
        self.optimizer = make_optimizer(model, optimizer)
        config = deepspeed_config(
            settings,
            optimizer,
            sum(parameter.numel() for _, parameter in self._parameters),
            device,
            dist.get_world_size(),
        )
        self._deepspeed = deepspeed.initialize(
            model=model, optimizer=self.optimizer, config=config
        )[0]
        self._clock = make_clock(device)
        self._deepspeed.allreduce_gradients = self._timed(self._deepspeed.allreduce_gradients)
        if settings.compile:
            self._deepspeed.compile()
        self.state = ZeroState(self._deepspeed, self.optimizer, self._parameters, settings)

    def train_step(
        self,
        batch: Batch,
        learning_rate: float,
        *,
        weight_decay: float | None = None,
        teacher_momentum: float | None = None,
        stop: bool = False,
    ) -> Outcome:
        """Train on this rank's part of a global batch; `stop` is passed on to all ranks. All
        ranks must call it together.

        Decay and the teacher's momentum are those of the settings and the objectives where none
        is given.
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
            average_over_ranks(statistics)
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
                # Gradients of earlier pieces are in DeepSpeed's hands already: NaN makes its
                # own check throw all of them away.
                self._backward(output.loss * math.nan, boundary=True)
            clock.lap("backward")
            if bad is not None:
                break
        return reports, bad, output.embeddings

    def shapes(self) -> dict[str, list[int]]:
        """The shape of every trained parameter."""
        return self._shapes

    def buffers(self) -> dict[str, Tensor]:
        """The model's buffers that belong to its state, equal on all ranks."""
        return stored_buffers(self.model)

    def release(self) -> None:
        """Take DeepSpeed's hands off the model, so that another engine can be made in this
        process.
        """
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
            weights = [
                self.state.whole(parameters[name]) for name in self._teacher.parameter_names
            ]
            self._teacher.update(weights, dict(self.model.named_buffers()), momentum)

    def _timed(self, reduce: Callable[..., None]) -> Callable[..., None]:
        # DeepSpeed calls it at the end of a backward pass; under ZeRO 2 and 3 gradients are
        # summed on the way, and this is the rest.
        def timed(*arguments: Any, **options: Any) -> None:
            self._clock.lap("backward")
            reduce(*arguments, **options)
            self._clock.lap("reduce")

        return timed

    def _backward(self, loss: Tensor, *, boundary: bool) -> None:
        self._deepspeed.set_gradient_accumulation_boundary(boundary)
        self._deepspeed.backward(loss)

    def _optimizer_step(self, *, discard: bool) -> tuple[float, bool]:
        if (
            self.settings.zero_stage == 0
        ):  # DeepSpeed checks gradients in all stages but this one
            gradients = [
                parameter.grad
                for _, parameter in self._parameters
                if parameter.grad is not None
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

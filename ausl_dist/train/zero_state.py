"""Where ZeRO keeps the exact weights and the optimizer's state, read and written in named
pieces.

    stage 0     the parameters themselves; every rank holds all
    stage 1, 2  one flat fp32 tensor for each group of parameters, cut up over the ranks
    stage 3     the same, and of each parameter an equal part lies on every rank

A piece is a view: what is written into it is what the next step begins with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ausl_dist.train.settings import EngineSettings

# of fp16's loss scaler
SCALER_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


@dataclass(frozen=True)
class Piece:
    """A run of one parameter's elements whose exact value and optimizer state live on this
    rank; tensors are views, 1-d.
    """

    name: str
    offset: int  # of the first element, in the flattened parameter
    master: Tensor
    states: dict[str, Tensor]


class ZeroState:
    """The state of one DeepSpeed engine. Made before the first step, so that a checkpoint can
    be read into it.
    """

    def __init__(
        self,
        engine: Any,  # DeepSpeed's, which has no types
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[tuple[str, Tensor]],
        settings: EngineSettings,
    ) -> None:
        self._deepspeed, self._optimizer, self._parameters = engine, optimizer, parameters
        self._zero_stage, self._fp16 = settings.zero_stage, settings.precision == "fp16"
        adam = "betas" in optimizer.defaults
        self._state_keys = ("exp_avg", "exp_avg_sq") if adam else ("momentum_buffer",)
        self._make_states()

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
        """This rank's pieces, or where every rank holds all (ZeRO 0), its share of them: the
        ranks' shares make up the whole.
        """
        pieces = self.pieces()
        return (
            pieces[dist.get_rank() :: dist.get_world_size()]
            if self._zero_stage == 0
            else pieces
        )

    def scalars(self) -> dict[str, float]:
        """State of the optimizer that is one number for all: Adam's count of steps taken,
        fp16's loss scale.
        """
        states = [self._optimizer.state[flat] for flat in self._flats()]
        values = {"optimizer_steps": float(states[0]["step"])} if "step" in states[0] else {}
        scaler = getattr(self._deepspeed.optimizer, "loss_scaler", None)
        if self._fp16:
            values |= {name: float(getattr(scaler, name)) for name in SCALER_STATE}
        return values

    def set_scalars(self, values: Mapping[str, float]) -> None:
        """Put back what `scalars` gave."""
        for flat in self._flats():
            state = self._optimizer.state[flat]
            if "step" in state:
                state["step"].fill_(values["optimizer_steps"])
        if self._fp16:
            for name in SCALER_STATE:
                number = values[name]
                setattr(
                    self._deepspeed.optimizer.loss_scaler,
                    name,
                    number if name == "cur_scale" else int(number),
                )

    def whole(self, parameter: Tensor) -> Tensor:
        """The exact value of a parameter, on every rank."""
        if self._zero_stage < 3 and parameter.dtype == torch.float32:
            return parameter.detach()
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter)

    def _flats(self) -> list[Tensor]:
        """The tensors that the optimizer itself updates."""
        zero = self._deepspeed.optimizer
        if self._zero_stage == 0:
            return [parameter for _, parameter in self._parameters]
        return list(
            zero.fp32_partitioned_groups_flat
            if self._zero_stage == 3
            else zero.single_partition_of_fp32_groups
        )

    def _make_states(self) -> None:
        # torch makes optimizer state at the first step; made here, a checkpoint can be read
        # into it before.
        for flat in self._flats():
            state = self._optimizer.state[flat]
            state.update({key: torch.zeros_like(flat) for key in self._state_keys})
            if "exp_avg" in state:
                state["step"] = torch.zeros(
                    (), device=flat.device if self._optimizer.defaults.get("fused") else None
                )

    def _pieces_of(self, name: str, parameter: Tensor) -> Iterator[Piece]:
        zero = self._deepspeed.optimizer
        if self._zero_stage == 0:
            flat, start, length, offset = parameter, 0, parameter.numel(), 0
        elif self._zero_stage == 3:
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
                key: self._optimizer.state[flat][key].detach().view(-1)[start : start + length]
                for key in self._state_keys
            }
            yield Piece(name, int(offset), flat.detach().view(-1)[start : start + length], cut)

"""How a run computes on its device, where that changes speed and last bits but not what is learnt.

    EngineSettings, device ──▶ Arithmetic ──▶ torch's switches; record and checkpoints name it

On a CPU none of the switches is touched: `tf32` and `cudnn_benchmark` say nothing there. Under
`deterministic` cuDNN does not choose its algorithms by trying, since two tries may end
differently; TF32 repeats itself, and stays.
"""

import dataclasses
import os
from dataclasses import dataclass

import torch

from ausl_dist.train.settings import EngineSettings


@dataclass(frozen=True)
class Arithmetic:
    """What decides the last bits of a step beside the code; equal on all ranks of a run."""

    device: str  # cpu, or the name of the card
    precision: str
    tf32: bool  # products and convolutions of fp32 with 10 bits of mantissa
    cudnn_benchmark: bool
    channels_last: bool
    compile: bool
    deterministic: bool

    def differences(self, other: object) -> str:
        """What another one, as a checkpoint stored it, has otherwise; empty where nothing."""
        stored = other if isinstance(other, dict) else {}
        return ", ".join(
            f"{name}={stored[name]} (here {value})"
            for name, value in dataclasses.asdict(self).items()
            if name in stored and stored[name] != value
        )


def arithmetic_of(settings: EngineSettings, device: torch.device) -> Arithmetic:
    """What the settings come to on this device."""
    cuda = device.type == "cuda"
    return Arithmetic(
        device=torch.cuda.get_device_name(device) if cuda else "cpu",
        precision=settings.precision,
        # What is left in fp32 beside 16 bits is there for the sake of its bits.
        tf32=cuda and settings.tf32 and settings.precision == "fp32",
        cudnn_benchmark=cuda and settings.cudnn_benchmark and not settings.deterministic,
        channels_last=settings.channels_last,
        compile=settings.compile,
        deterministic=settings.deterministic,
    )


def set_switches(arithmetic: Arithmetic) -> None:
    """Make torch compute so, in this process."""
    if arithmetic.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(arithmetic.deterministic)
    if arithmetic.device == "cpu":
        return
    torch.backends.cudnn.benchmark = arithmetic.cudnn_benchmark
    # By these switches: after torch's newer ones (fp32_precision) the older ones raise, and
    # torch.compile reads the older ones. set_float32_matmul_precision would change the CPU too.
    torch.backends.cuda.matmul.allow_tf32 = arithmetic.tf32
    torch.backends.cudnn.allow_tf32 = arithmetic.tf32  # cuDNN's own default is True

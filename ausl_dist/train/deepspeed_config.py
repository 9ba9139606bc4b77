"""What DeepSpeed is told, and what it would do silently wrong and is refused instead."""

from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ausl_dist.model.joint import JointModel
from ausl_dist.train.settings import EngineSettings, OptimizerSettings

# Of gradient or weight buckets; DeepSpeed's default takes 2 GB of memory for each.
BUCKET_ELEMENTS = 50_000_000


def deepspeed_config(
    settings: EngineSettings,
    optimizer: OptimizerSettings,
    num_weights: int,
    device: torch.device,
    ranks: int,
) -> dict[str, Any]:
    """The config of DeepSpeed for a model of `num_weights` trained weights."""
    # It lets the host wait for the whole device after each backward pass, the loader's decoding
    # included: not worth it where there is nobody to sum gradients with.
    overlap = device.type == "cuda" and ranks > 1
    # DeepSpeed wants a multiple of its alignment
    bucket = min(BUCKET_ELEMENTS, -(-num_weights // 1024) * 1024)
    zero: dict[str, Any] = {
        "stage": settings.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": overlap,
    }
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device.type == "cuda"}
    config: dict[str, Any] = {
        # wanted, but only used for its own throughput lines
        "train_micro_batch_size_per_gpu": 1,
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


def refuse_what_it_cannot(model: JointModel, settings: EngineSettings) -> None:
    """Raise ValueError, with what to type, where DeepSpeed would get a model wrong."""
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

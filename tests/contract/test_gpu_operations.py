"""What a GPU asks of every objective, seen on a CPU: operations that have a deterministic
kernel there, and few waits of the host for the device.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ausl_dist.model.backbones import BackboneSettings, build_backbone
from tests.contract.test_objective_contract import FILES, batch_for, build, forward
from tests.support.tiny import BATCH_NORM, LAYER_NORM, TRANSFORMER

# Operators whose CUDA kernels raise under torch.use_deterministic_algorithms(True): that
# function's docstring, in the names that the dispatcher knows (torch 2.13).
REFUSED = {
    "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d_backward",
    "_ctc_loss_backward",
    "_upsample_bicubic2d_aa_backward",
    "_upsample_bilinear2d_aa_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "cumsum",
    "fractional_max_pool2d_backward",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "histc",
    "kthvalue",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad1d_backward",
    "reflection_pad2d_backward",
    "reflection_pad3d_backward",
}
REFUSED_OVERLOADS = {"median.dim", "nanmedian.dim"}  # with indices; without them is fine

# What makes the host wait for the device, or for a small array to reach it.
WAITS = {
    "tolist",
    "item",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "cpu",
    "numpy",
    "nonzero",
}


class RefusingMode(TorchDispatchMode):
    """Raises as CUDA would."""

    def __torch_dispatch__(
        self, operator: Any, types: object, arguments: Any = (), options: Any = None
    ) -> Any:
        packet, overload = operator.overloadpacket.__name__, operator._overloadname
        floating = any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in arguments)
        if f"{packet}.{overload}" in REFUSED_OVERLOADS or (packet in REFUSED and floating):
            raise RuntimeError(
                f"{packet} does not have a deterministic implementation on a GPU"
            )
        return operator(*arguments, **(options or {}))


class WaitCounter(TorchFunctionMode):
    """Counts what would make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(
        self, function: Any, types: object, arguments: Any = (), options: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in WAITS or (name == "__getitem__" and _by_mask(arguments[1])):
            self.waits.append(name)
        return function(*arguments, **(options or {}))


def _by_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_an_objective_has_only_operations_that_a_gpu_can_repeat(file: Path) -> None:
    model = build(file)
    batch = batch_for(model)
    with RefusingMode():
        forward(model, batch).loss.backward()


@pytest.mark.parametrize("name", [BATCH_NORM, LAYER_NORM, TRANSFORMER])
def test_a_backbone_has_only_operations_that_a_gpu_can_repeat(name: str) -> None:
    backbone = build_backbone(BackboneSettings(name, image_size=32))
    with RefusingMode():
        pooled, maps = backbone(torch.randn(2, 3, 32, 32))
        (pooled.sum() + maps.sum()).backward()


OPERATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nll_loss2d": lambda x: torch.nn.functional.cross_entropy(
        x, torch.zeros(2, 4, dtype=torch.long), reduction="none"
    ),
    "grid_sampler": lambda x: torch.nn.functional.grid_sample(
        x[:, None], torch.zeros(2, 1, 1, 2), align_corners=False
    ),
    "nanmedian": lambda x: x.nanmedian(1).values,
    "adaptive_avg_pool2d": lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 2),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_the_check_sees_the_operations_it_is_for(
    operation: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    values = torch.randn(2, 3, 4, requires_grad=True)
    with RefusingMode(), pytest.raises(RuntimeError, match="deterministic"):
        operation(values).sum().backward()


@pytest.fixture
def known_slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Batches that came by a loader know their slots; made-up ones count them here, on the CPU."""
    from ausl_dist.batch import Batch

    monkeypatch.setattr(
        Batch, "valid", functools.cached_property(lambda batch: [*range(len(batch))])
    )
    Batch.valid.__set_name__(Batch, "valid")  # type: ignore[attr-defined]
    return


# Cross-identity reconstruction keeps the keys of valid clips alone: their number is not known
# before.
ALLOWED = {"cross_identity_reconstruction": 2, "cross_identity_reconstruction_deviation": 2}


def test_an_objective_never_waits_for_the_gpu(file: Path, known_slots: None) -> None:
    model = build(file)
    batch = batch_for(model)
    with WaitCounter() as counter:
        forward(model, batch)
    assert len(counter.waits) <= ALLOWED.get(file.stem, 0), counter.waits

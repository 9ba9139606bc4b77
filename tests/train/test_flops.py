"""FLOPs as one would count them by hand, and counting leaves the model as it was."""

import pytest
import torch
from torch import nn

from ausl_dist.batch import Needs, View
from ausl_dist.model.joint import random_state_kept
from ausl_dist.objectives.base import BatchView, Loss, Objective
from ausl_dist.train.flops import JOINT, count_flops, peak_flops
from ausl_dist.train.settings import EngineSettings
from tests.support.tiny import BATCH_NORM, IMAGE_SIZE, RANKING, make_model


class Matrix(Objective):
    """One matrix product on pooled features of 2 frames; with a teacher, one more, without
    gradient.
    """

    def __init__(self, *, feature_dim: int, teacher: bool = False) -> None:
        super().__init__()
        self.head = nn.Linear(feature_dim, 10, bias=False)
        self.needs_teacher = teacher

    def needs(self) -> Needs:
        return Needs(views={View(): (0, 1)})

    def forward(self, seen: BatchView) -> Loss:
        target = seen.teacher_pooled(View(), (0, 1)).mean() if self.needs_teacher else 0.0
        return Loss(
            seen.mean((self.head(seen.pooled(View(), (0, 1))) - target).square().mean((1, 2)))
        )


MATRIX = {"_target_": f"{__name__}.Matrix"}


def test_a_head_costs_two_operations_a_weight_and_frame_and_twice_that_backward() -> None:
    small = make_model(matrix=MATRIX)
    large = make_model(matrix=MATRIX)
    large.objectives["matrix"].head = nn.Linear(large.backbone.dim, 20, bias=False)
    more = (
        count_flops(large, IMAGE_SIZE, 1)["matrix"]
        - count_flops(small, IMAGE_SIZE, 1)["matrix"]
    )
    assert more == 6 * (10 * small.backbone.dim) * 2


def test_objectives_that_share_a_view_share_its_cost_and_a_teacher_adds_a_forward() -> None:
    both = count_flops(make_model(one=MATRIX, two=MATRIX), IMAGE_SIZE, 1)
    assert both["one"] == both["two"] < both[JOINT] < 1.1 * both["one"]
    taught = count_flops(make_model(matrix={**MATRIX, "teacher": True}), IMAGE_SIZE, 1)[
        "matrix"
    ]
    assert taught / both["one"] == pytest.approx(4 / 3, rel=1e-3)


def test_counting_leaves_no_trace() -> None:
    model = make_model(
        backbone=BATCH_NORM, temporal_ranking=RANKING, matrix={**MATRIX, "teacher": True}
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    count_flops(model, IMAGE_SIZE, 1)
    assert torch.equal(torch.rand(3), wanted)
    assert model.teacher is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_counting_opens_no_gpu_but_the_ranks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(
        torch.cuda, "get_rng_state", lambda device: asked.append(device) or torch.zeros(1)
    )
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    with random_state_kept(torch.device("cuda", 3)):
        pass
    with random_state_kept(torch.device("cpu")):
        pass
    assert asked == [torch.device("cuda", 3)]


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.0),
        ("NVIDIA H100 PCIe", "bf16_autocast", 756.0),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA A10", "bf16", 125.0),
        ("Some other device", "bf16", None),
        (None, "fp32", None),
    ],
)
def test_the_peak_is_that_of_the_data_sheet_or_unknown(
    name: str | None, precision: str, teraflops: float | None
) -> None:
    found = peak_flops(EngineSettings(precision=precision), name)  # type: ignore[arg-type]
    assert found == (None if teraflops is None else pytest.approx(teraflops * 1e12))
    assert peak_flops(EngineSettings(peak_teraflops=2.0), name) == 2e12


def test_the_peak_of_fp32_is_that_of_tf32_where_products_are() -> None:
    assert peak_flops(EngineSettings(tf32=True), "NVIDIA H100 80GB HBM3") == 494.7e12
    half = EngineSettings(tf32=True, precision="bf16_autocast")
    assert peak_flops(half, "NVIDIA H100 80GB HBM3") == 989e12

"""The switches of a GPU's arithmetic: set as the settings say, overruled where they would take
away what was promised, recorded, and without effect on a CPU.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ausl_dist.model.backbones import BackboneSettings, build_backbone
from ausl_dist.objectives.base import in_float32
from ausl_dist.train.arithmetic import Arithmetic, arithmetic_of, set_switches
from ausl_dist.train.resume import Resume
from ausl_dist.train.settings import EngineSettings

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
FAST = {"channels_last": True, "tf32": True, "cudnn_benchmark": True}


def switches() -> dict[str, object]:
    cuda, cudnn, cpu = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    return {
        "products": cuda.matmul.allow_tf32,
        "convolutions": cudnn.allow_tf32,
        "benchmark": cudnn.benchmark,
        "products of a CPU": cpu.matmul.fp32_precision,  # type: ignore[attr-defined]
    }


@pytest.fixture(autouse=True)
def switched_back() -> Iterator[None]:
    before = switches()
    yield
    torch.backends.cuda.matmul.allow_tf32 = bool(before["products"])
    torch.backends.cudnn.allow_tf32 = bool(before["convolutions"])
    torch.backends.cudnn.benchmark = bool(before["benchmark"])
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some card")


def of(device: torch.device = GPU, **settings: object) -> Arithmetic:
    return arithmetic_of(EngineSettings(**settings), device)  # type: ignore[arg-type]


def test_on_a_cpu_no_switch_is_touched() -> None:
    before = switches()
    arithmetic = of(CPU, **FAST)
    set_switches(arithmetic)
    assert switches() == before
    assert (arithmetic.device, arithmetic.tf32, arithmetic.cudnn_benchmark) == (
        "cpu",
        False,
        False,
    )


def test_on_a_gpu_the_settings_hold_and_the_compiler_can_read_them(card: None) -> None:
    cpu = switches()["products of a CPU"]
    set_switches(of(**FAST))
    assert switches() == {
        "products": True,
        "convolutions": True,
        "benchmark": True,
        "products of a CPU": cpu,
    }
    # torch.compile asks so, and torch raises here after its newer switches
    assert torch.get_float32_matmul_precision() == "high"
    set_switches(of())  # fp32 is fp32 where nothing was said, though cuDNN would take TF32
    assert list(switches().values())[:3] == [False, False, False]


def test_what_would_break_a_promise_is_overruled(card: None) -> None:
    exact = of(**FAST, deterministic=True)
    assert (exact.cudnn_benchmark, exact.tf32, exact.deterministic) == (False, True, True)
    half = of(**FAST, precision="bf16_autocast", compile=True)
    assert not half.tf32, "what is left in fp32 there is left for its bits"
    set_switches(exact)
    assert torch.are_deterministic_algorithms_enabled()
    set_switches(of())
    assert not torch.are_deterministic_algorithms_enabled()


def test_losses_are_computed_in_all_bits_of_fp32(card: None) -> None:
    set_switches(of(**FAST))
    with in_float32(torch.ones(1)):
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(ValueError, match="type precision=bf16_autocast, tf32=false, or"):
        EngineSettings(tf32=True, compile=True)


def test_a_resume_on_another_card_or_with_other_switches_says_so(
    card: None, caplog: pytest.LogCaptureFixture
) -> None:
    stored = {**vars(of(**FAST)), "device": "Another card"}
    resume = SimpleNamespace(path=Path("step-5"), state={"arithmetic": stored})
    Resume.compare(resume, of(**FAST))  # type: ignore[arg-type]
    assert "device=Another card (here Some card)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        for state in ({"arithmetic": vars(of(**FAST))}, {}):
            same = SimpleNamespace(path=Path("step-5"), state=state)
            Resume.compare(same, of(**FAST))  # type: ignore[arg-type]
    assert not caplog.text


NETWORKS = ["test_resnet", "test_convnext", "test_vit", "resnet18_2d3d", "small_conv"]


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_gives_the_same_features_and_gradients_in_rows(name: str) -> None:
    """In rows, because ZeRO reads a gradient as one line of numbers."""
    # batch norm by its running statistics: those of two pictures would magnify each rounding
    backbone = build_backbone(BackboneSettings(name, image_size=32)).eval()
    images = torch.randn(2, 3, 32, 32)
    found = []
    for channels_last in (False, True):
        backbone.channels_last = channels_last
        torch.manual_seed(0)
        pooled, maps = backbone(images)
        (pooled.square().mean() + maps.square().mean()).backward()
        weights = {n: w.grad for n, w in backbone.named_parameters() if w.grad is not None}
        assert all(grad.is_contiguous() for grad in weights.values())
        found.append([pooled.detach(), maps.detach(), *(g.clone() for g in weights.values())])
        backbone.zero_grad()
    for rows, pixels in zip(*found, strict=True):
        torch.testing.assert_close(pixels, rows, rtol=1e-3, atol=1e-4)

"""Batches on their way to a GPU: the right device in every thread, a stream of their own,
pinned memory, and no memory given away while training reads it. torch.cuda is a stand-in that
keeps a log.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from ausl_dist.batch import Needs, View
from ausl_dist.stream import decode
from ausl_dist.stream.carrier import Carrier
from ausl_dist.stream.decode import Graph, GraphPlan
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tests.support.corpora import make_corpus
from tests.support.fake_cuda import FakeCuda, fake_cuda

__all__ = ["fake_cuda"]

GPU = torch.device("cuda", 1)
PLAN = Needs.union([Needs({View(): (0, 2)}, landmarks=True, identity=True)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"), clips=8, frames=12, size=64)


def open_loader(corpus: Path, folder: Path, device: torch.device | None) -> Loader:
    settings = DataSettings(
        corpora={"main": CorpusSource(str(corpus))},
        image_size=32,
        lanes=2,
        clips_per_lane=1,
        shuffle_window=4,
        device="cpu",  # where frames are made, whatever the model is on
    )
    return Loader(
        settings, PLAN, seed=0, rank=0, world_size=1, run_folder=folder, device=device
    )


def test_batches_of_the_cpu_are_pinned_and_copied_on_the_loaders_stream(
    corpus: Path, tmp_path: Path, fake_cuda: FakeCuda
) -> None:
    fake_cuda.set_device(1)
    with open_loader(corpus, tmp_path, GPU) as loader:
        batch = next(loader)
        next(loader)
    assert all(device == 1 for _, _, device in fake_cuda.calls("pin")), "pinned for another GPU"
    copies = fake_cuda.calls("to")
    assert copies
    for thread, _, device, stream, non_blocking in copies:
        assert (thread, device, stream, non_blocking) == ("assembler", "cuda:1", "side 1", True)
    # training waits for the copies, on its own stream and not on the host
    assert (
        fake_cuda.calls("wait_event") == [("MainThread", "wait_event", "default", "side 1")] * 2
    )
    assert not fake_cuda.calls("synchronize")
    # and its memory is not given to the next batch before training has read it
    recorded = fake_cuda.calls("record_stream")
    assert recorded == [("MainThread", "record_stream", "default")] * len(recorded)
    assert len(recorded) == 2 * sum(1 for _ in batch.tensors())


def test_the_assembler_is_on_the_ranks_gpu_before_it_touches_cuda(
    corpus: Path, tmp_path: Path, fake_cuda: FakeCuda
) -> None:
    with open_loader(corpus, tmp_path, GPU) as loader:
        next(loader)
    first = next(entry for entry in fake_cuda.log if entry[0] == "assembler")
    assert first == ("assembler", "set_device", 1)


def test_without_a_gpu_nothing_is_pinned_or_copied(
    corpus: Path, tmp_path: Path, fake_cuda: FakeCuda
) -> None:
    with open_loader(corpus, tmp_path, None) as loader:
        next(loader)
    assert fake_cuda.log == []


def test_which_slots_hold_a_clip_is_known_on_the_host_wherever_the_batch_goes(
    corpus: Path, tmp_path: Path, fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_loader(corpus, tmp_path, GPU) as loader:
        batch = next(loader)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda _: pytest.fail("a wait for the GPU"))
    assert batch.to("cpu").valid == batch.valid == [0, 1]
    assert batch.cut(1, 2).valid == [0]


class FakePipeline:
    """A built graph of a GPU: each output tells when it was let go of."""

    def __init__(self) -> None:
        self.alive: list[int] = []
        self.streams: list[object] = []
        self.runs = 0

    def build(self) -> None: ...

    def feed_input(self, name: str, values: object) -> None: ...

    def run(self, stream: object = None) -> list["FakeOutput"]:
        self.streams.append(stream)
        self.runs += 1
        return [FakeOutput(self, self.runs)]


class FakeOutput:
    def __init__(self, pipeline: FakePipeline, number: int) -> None:
        self.pipeline, self.number = pipeline, number
        pipeline.alive.append(number)

    def as_tensor(self) -> np.ndarray:
        return np.full((1, 1, 3, 4, 4), self.number, np.float32)

    def __del__(self) -> None:
        self.pipeline.alive.remove(self.number)


def test_outputs_of_dali_live_until_their_copy_is_done(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline returns at once, its copy is queued: let go of earlier, DALI could write the
    next batch into it.
    """
    pipeline = FakePipeline()
    monkeypatch.setattr(decode, "build_graph", lambda plan, device_id: pipeline)
    monkeypatch.setattr(decode, "_inputs", lambda plan, clips: {})
    carrier = Carrier(GPU)
    graph = Graph(GraphPlan(((View(), (0,)),), 4, 1, 1, "gpu", "dali"), carrier)
    clip: list[object] = [object()]
    with carrier.entered():
        first, _ = graph.run(clip)  # type: ignore[arg-type]
        assert pipeline.alive == [1]
        second, _ = graph.run(clip)  # type: ignore[arg-type]
        assert pipeline.alive == [2]
    assert pipeline.streams == [carrier.stream] * 2
    assert fake_cuda.calls("synchronize") == [("MainThread", "synchronize", "side 1")]
    assert float(first[View()].max()) == 1.0, "a copy of torch's own"
    assert float(second[View()].max()) == 2.0

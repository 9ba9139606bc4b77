"""The loaders people use today, on the same clips: runs in the environment that
`python -m tools.bench_stream` makes for them.

Each has two workers, batches of eight clips, all 32 frames decoded, one random crop of 213
pixels for each clip, resized to 112 with anti-aliasing, normalised, float32 B T C H W. What
each does is the fastest we found that its documentation describes.
"""

import io
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

# There is no CPU build of torchvision on the package index; its CUDA wheel imports once the
# operators it lacks are declared.
_schemas = torch.library.Library("torchvision", "DEF")
_schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torch import Tensor  # noqa: E402
from torch.nn.functional import interpolate  # noqa: E402

from tools.stream_bench.measure import ReadingJob, Result, measure, run  # noqa: E402

CROP = 213
MEAN = 255 * torch.tensor([0.485, 0.456, 0.406]).view(1, 1, 3, 1, 1)
SCALE = 1 / (255 * torch.tensor([0.229, 0.224, 0.225]).view(1, 1, 3, 1, 1))


def sample(frames: Tensor, size: int) -> Tensor:
    """Crop and resize uint8 frames T H W C to T C S S: in bytes and with channels last, which
    torch has its fast resize for.
    """
    top, left = (random.randrange(side - CROP + 1) for side in frames.shape[1:3])
    crop = frames[:, top : top + CROP, left : left + CROP].permute(0, 3, 1, 2)
    return interpolate(crop, size=(size, size), mode="bilinear", antialias=True).contiguous()


def normalised(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Float32 batches of what the workers send: bytes, because floats would cost four times as
    much on the way.
    """
    for batch in batches:
        yield batch.float().sub_(MEAN).mul_(SCALE)


def with_pyav(video: bytes, job: ReadingJob) -> Tensor:
    import av
    import numpy as np
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    with av.open(io.BytesIO(video), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = [
            reformatter.reformat(frame, format="rgb24").to_ndarray()
            for frame in container.decode(stream)
        ]
    return sample(torch.from_numpy(np.stack(frames)), job.image_size)


def with_torchcodec(video: bytes, job: ReadingJob) -> Tensor:
    from torchcodec.decoders import VideoDecoder

    # Fast settings of its documentation: approximate seeking, one FFmpeg thread where the
    # workers are the parallelism.
    decoder = VideoDecoder(
        video, seek_mode="approximate", num_ffmpeg_threads=1, dimension_order="NHWC"
    )
    return sample(decoder.get_frames_in_range(0, job.frames).data, job.image_size)


DECODERS: dict[str, Callable[[bytes, ReadingJob], Tensor]] = {
    "PyAV": with_pyav,
    "torchcodec": with_torchcodec,
}


def one_thread(*_: Any) -> None:
    torch.set_num_threads(1)


def shards(job: ReadingJob) -> list[str]:
    """Paths of the shards, or commands that read them: webdataset has no s3 scheme of its own."""
    if "://" not in job.data:
        return [str(path) for path in sorted(Path(job.data).glob("*.tar"))]
    return [f"pipe:curl -sf '{url}'" for url in json.loads(os.environ["BENCH_SIGNED_URLS"])]


def webdataset(job: ReadingJob, decode: str) -> Iterator[Any]:
    import webdataset as wds

    dataset = wds.WebDataset(
        shards(job),
        shardshuffle=100,
        nodesplitter=wds.split_by_node,
        workersplitter=wds.split_by_worker,
    )
    dataset = dataset.repeat().shuffle(64).map(lambda clip: DECODERS[decode](clip["mp4"], job))
    dataset = dataset.batched(job.batch, collation_fn=torch.stack)
    return iter(
        wds.WebLoader(
            dataset,
            batch_size=None,
            num_workers=job.workers,
            worker_init_fn=one_thread,
            prefetch_factor=2,
        )
    )


def energon(job: ReadingJob, decode: str) -> Iterator[Any]:
    from megatron.energon import (
        Cooker,
        Sample,
        WorkerConfig,
        basic_sample_keys,
        get_savable_loader,
        get_train_dataset,
        stateless,
    )
    from megatron.energon import DefaultTaskEncoder as TaskEncoder
    from megatron.energon import edataclass as dataclass_of_energon

    @dataclass_of_energon
    class Clip(Sample):
        video: bytes

    @stateless
    def cook(clip: dict[str, Any]) -> Clip:
        return Clip(**basic_sample_keys(clip), video=clip["mp4"])

    class ClipTaskEncoder(TaskEncoder):
        cookers = (Cooker(cook),)
        decoder = None  # members as bytes

        @stateless
        def encode_sample(self, clip: Clip) -> Tensor:
            one_thread()
            return DECODERS[decode](clip.video, job)

        def batch(self, clips: list[Tensor]) -> Tensor:
            return torch.stack(clips)

        def encode_batch(self, batch: Tensor) -> Tensor:
            return batch

    dataset = get_train_dataset(
        job.data.replace("s3://", "msc://"),
        worker_config=WorkerConfig(rank=0, world_size=1, num_workers=job.workers),
        batch_size=job.batch,
        shuffle_buffer_size=64,
        max_samples_per_sequence=64,
        task_encoder=ClipTaskEncoder(),
    )
    loader = get_savable_loader(dataset)
    if job.start_step:
        loader.restore_state_rank(torch.load(job.state, weights_only=False))
    return loader


def save_energon_state(job: ReadingJob) -> Result:
    """A run of `start_step` batches, whose state goes to the file `state`: it holds buffers, so
    it cannot be made up.
    """
    loader: Any = energon(ReadingJob(**{**vars(job), "start_step": 0}), "torchcodec")
    for _ in zip(range(job.start_step), loader, strict=False):
        pass
    torch.save(loader.save_state_rank(), job.state)
    return Result(0.0)


def mosaic(job: ReadingJob, decode: str) -> Iterator[Any]:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    class Clips(StreamingDataset):
        def __getitem__(self, number: int) -> Tensor:
            return DECODERS[decode](super().__getitem__(number)["video"], job)

    remote = "://" in job.data
    places = (
        {"remote": job.data, "local": tempfile.mkdtemp()} if remote else {"local": job.data}
    )
    dataset = Clips(
        **places, shuffle=True, batch_size=job.batch, shuffle_block_size=2048, predownload=256
    )
    if job.start_step:
        dataset.load_state_dict(_mosaic_state(dataset, job))
    loader: Any = DataLoader(
        dataset,
        batch_size=job.batch,
        num_workers=job.workers,
        worker_init_fn=one_thread,
        persistent_workers=True,
    )
    return _for_ever(loader)


def _mosaic_state(dataset: Any, job: ReadingJob) -> dict[str, Any]:
    epoch, sample = divmod(job.start_step * job.batch, dataset.size)
    canonical = dataset.num_canonical_nodes or 64
    return {
        "epoch": epoch,
        "sample_in_epoch": sample,
        "num_canonical_nodes": canonical,
        "shuffle_seed": 9176,
        "initial_physical_nodes": 1,
    }


def litdata(job: ReadingJob, decode: str) -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import downloader

    class Clips(StreamingDataset):
        def __getitem__(self, number: Any) -> Tensor:
            return DECODERS[decode](bytes(super().__getitem__(number)), job)

    # Its fast client takes https alone and has no option for that; the server on loopback
    # speaks http.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    options = (
        {"storage_options": {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}}
        if "://" in job.data
        else {}
    )
    dataset = Clips(job.data, shuffle=True, cache_dir=tempfile.mkdtemp(), **options)
    loader = StreamingDataLoader(
        dataset, batch_size=job.batch, num_workers=job.workers, worker_init_fn=one_thread
    )
    if job.start_step:
        state = loader.state_dict()
        epoch, sample = divmod(
            job.start_step * job.batch, len(dataset) // job.batch * job.batch
        )
        for part in (state, state["dataset"]):
            part.update(current_epoch=epoch + 1, num_samples_yielded=sample)
        state["dataset"]["sample_in_epoch"] = sample
        loader.load_state_dict(state)
    return _for_ever(loader)


def _for_ever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def bare_torchcodec(job: ReadingJob) -> Iterator[Any]:
    from torchcodec.decoders import VideoDecoder

    videos = _videos(job)
    while True:
        for _ in range(job.batch):
            video = videos[random.randrange(len(videos))]
            VideoDecoder(
                video, seek_mode="approximate", num_ffmpeg_threads=1, dimension_order="NHWC"
            ).get_frames_in_range(0, job.frames)
        yield None


def _videos(job: ReadingJob) -> list[bytes]:
    import tarfile

    with tarfile.open(shards(job)[0]) as tar:
        return [tar.extractfile(info).read() for info in tar if info.name.endswith(".mp4")]  # type: ignore[union-attr]


def convert(job: ReadingJob) -> Result:
    """Write the clips of the shards in `job.data` in the peers' own formats beside it: mds/ and
    litdata/.
    """
    from litdata import optimize
    from streaming import MDSWriter

    videos = _all_videos(job)
    target = Path(job.data).parent
    if not (target / "mds" / "index.json").exists():
        with MDSWriter(
            out=str(target / "mds"), columns={"video": "bytes"}, size_limit=16 << 20
        ) as writer:
            for video in videos:
                writer.write({"video": video})
    if not (target / "litdata" / "index.json").exists():
        optimize(
            fn=_identity,
            inputs=videos,
            output_dir=str(target / "litdata"),
            chunk_bytes="16MB",
            num_workers=1,
            mode="overwrite",
        )
    return Result(0.0)


def _identity(video: bytes) -> bytes:
    return video


def _all_videos(job: ReadingJob) -> list[bytes]:
    return [
        video
        for path in shards(job)
        for video in _videos(ReadingJob(**{**vars(job), "data": str(Path(path).parent)}))
    ]


LOADERS: dict[str, Callable[[ReadingJob, str], Iterator[Any]]] = {
    "webdataset": webdataset,
    "energon": energon,
    "streaming": mosaic,
    "litdata": litdata,
}


PREPARATIONS = {"convert": convert, "save energon state": save_energon_state}


def _contender(
    loader: Callable[[ReadingJob, str], Iterator[Any]], decode: str
) -> Callable[[ReadingJob], Result]:
    return lambda job: measure(job, lambda job: normalised(loader(job, decode)))


if __name__ == "__main__":
    one_thread()
    contenders = {
        f"{name} + {decode}": _contender(loader, decode)
        for name, loader in LOADERS.items()
        for decode in DECODERS
    }
    run(
        {
            **contenders,
            "bare torchcodec": lambda job: measure(job, bare_torchcodec),
            **PREPARATIONS,
        }
    )

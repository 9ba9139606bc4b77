"""Decoding, the loader from end to end beside bare decoders, and the stall behind a real step."""

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from ausl_dist.batch import Needs, View
from ausl_dist.stream import chosen
from ausl_dist.stream.cards import Kind, encode_as, kind_of
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from ausl_dist.stream.truth import NVDEC, WAYS, samples_of, table
from tools.gpu_bench.bare import bare_decoders
from tools.gpu_bench.corpora import make_corpus, moving_texture
from tools.gpu_bench.sizes import GpuBench, Measured, Numbers, tried
from tools.gpu_bench.training import ON_GPUS, device, engine_of


def decode(bench: GpuBench) -> Measured:
    """The truth table by codec and size, with frames a second at 1, 4 and 8 clips at once."""
    size = bench.size
    ways = {name: way for name, way in WAYS.items() if name != NVDEC or device().type == "cuda"}
    for codec in size.codecs:
        kinds = [Kind(codec, side, side, full=codec == "mjpeg") for side in size.sides]
        videos = [encode_as(k, moving_texture(1, size.frames, k.width)) for k in kinds]
        samples = {kind_of(video): video for video in videos}
        numbers: Numbers = {}
        for row in table(samples, ways, seconds=size.seconds, patience_seconds=60):
            if row.wrong is not None:
                numbers[f"{row.way}, {row.kind}"] = row.wrong
                continue
            numbers[f"{row.way}, {row.kind}, dB"] = row.psnr or 0.0
            for width, rate in (row.frames_per_second or {}).items():
                numbers[f"{row.way}, {row.kind}, frames/s, {width} at once"] = rate
        yield numbers


def loader(bench: GpuBench) -> Measured:
    """Frames a second of the loader in each way to set it, beside bare decoders on the same
    device that are asked for the same frames of the same clips.
    """
    size = bench.size
    for codec in size.codecs:
        url = _corpus(bench, codec)
        loaders: list[float] = []
        for decoder in ("pyav", "dali"):
            rate = tried(partial(_loader_rate, bench, url, decoder))
            yield {f"loader, {codec}, decoder={decoder}, frames/s": rate}
            loaders += [rate] if isinstance(rate, float) else []
        video = next(iter(samples_of(url).values()))
        bare: list[float] = []
        for name, prepare in bare_decoders(device()).items():
            rate = tried(partial(_bare_rate, bench, prepare, video))
            yield {f"bare {name}, {codec}, {size.sessions} sessions, frames/s": rate}
            bare += [rate] if isinstance(rate, float) else []
        ratio: float | str = "not measured: no loader or no bare decoder took these clips"
        if loaders and bare:
            ratio = max(loaders) / max(bare)
        yield {f"loader over the bare decoder, {codec}": ratio}


def stall(bench: GpuBench) -> Measured:
    """The share of its time that a run waits for data, behind real steps."""
    size = bench.size
    arithmetic = ON_GPUS if device().type == "cuda" else {}  # a CPU only emulates 16 bits
    engine = engine_of(size.backbones[0], size, **arithmetic)  # type: ignore[arg-type]
    needs = engine.model.plan
    settings = _settings(bench, _corpus(bench, size.codecs[0]), "auto")
    choice = chosen.decide(settings, needs, gpu=device().type == "cuda")
    yield {"decoder": f"data.decoder={choice.decoder}: {choice.why}"}
    try:
        with _open(bench, chosen.apply(settings, choice), needs) as batches:
            for _ in range(size.warm):
                engine.train_step(next(batches), 1e-4)
            began, blocked = time.monotonic(), batches.blocked_seconds["augment"]
            for _ in range(size.steps):
                engine.train_step(next(batches), 1e-4)
            seconds = time.monotonic() - began
            waited = batches.blocked_seconds["augment"] - blocked
    finally:
        engine.release()
    yield {"stall, share of a run": waited / seconds, "step, ms": 1000 * seconds / size.steps}


def _corpus(bench: GpuBench, codec: str) -> str:
    folder = bench.work / f"corpus-{codec}"
    if folder.exists():
        return str(folder)
    size = bench.size
    return make_corpus(
        folder,
        clips=size.clips,
        frames=size.frames,
        side=size.side,
        codec=codec,  # type: ignore[arg-type]
    )


def _settings(bench: GpuBench, url: str, decoder: str) -> DataSettings:
    return DataSettings(
        corpora={"main": CorpusSource(url)},
        image_size=bench.size.image_size,
        lanes=bench.size.batch,
        clips_per_lane=1,
        shuffle_window=8,
        decoder=decoder,  # type: ignore[arg-type]
        decode_threads=bench.size.threads,
    )


def _open(bench: GpuBench, settings: DataSettings, needs: Needs) -> Loader:
    return Loader(
        settings, needs, seed=0, rank=0, world_size=1, run_folder=bench.work, device=device()
    )


def _loader_rate(bench: GpuBench, url: str, decoder: str) -> float:
    view = View(crop=(0.6, 0.8), flip=0.5, brightness=0.2, contrast=0.2, blur=0.5)
    needs = Needs({view: tuple(range(bench.size.frames))})
    settings = _settings(bench, url, decoder)
    if device().type == "cuda":
        settings = dataclasses.replace(settings, device="gpu")
    with _open(bench, settings, needs) as batches:
        for _ in range(bench.size.warm):
            next(batches)
        began, clips = time.monotonic(), 0
        while time.monotonic() - began < bench.size.seconds or not clips:
            clips += len(next(batches))
        if device().type == "cuda":
            torch.cuda.synchronize()
        return clips * len(needs.views[view]) / (time.monotonic() - began)


def _bare_rate(
    bench: GpuBench, prepare: Callable[[bytes, int], Callable[[], object]], video: bytes
) -> float:
    """Frames a second of several decoders at once, each with a thread and a session of its
    own.
    """
    sessions, frames = bench.size.sessions, bench.size.frames
    decoders = [prepare(video, frames) for _ in range(sessions)]
    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(lambda decode: decode(), decoders))  # opens its session
        began, rounds = time.monotonic(), 0
        while time.monotonic() - began < bench.size.seconds or not rounds:
            list(pool.map(lambda decode: decode(), decoders))
            rounds += 1
        if device().type == "cuda":
            torch.cuda.synchronize()
    return rounds * sessions * frames / (time.monotonic() - began)

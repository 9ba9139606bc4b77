"""Decoding, the loader from end to end, and the stall behind a real step."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from ausl_dist.batch import Needs, View
from ausl_dist.stream.cards import Kind, encode_as, kind_of
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.probe import Pyav
from ausl_dist.stream.settings import CorpusSource, DataSettings
from ausl_dist.stream.truth import NVDEC, WAYS, samples_of, table
from tools.gpu_bench.corpora import make_corpus, moving_texture
from tools.gpu_bench.sizes import GpuBench, Numbers
from tools.gpu_bench.training import device, engine_of

SESSIONS = 7  # of the bare decoder: an H100 has so many engines
WARM_STEPS = 2


def decode(bench: GpuBench) -> Numbers:
    """The truth table by codec and size, with frames a second at 1, 4 and 8 clips at once."""
    size = bench.size
    kinds = [
        Kind(codec, side, side, full=codec == "mjpeg")
        for codec in size.codecs
        for side in size.sides
    ]
    samples = {
        kind: encode_as(kind, moving_texture(1, size.frames, kind.width)) for kind in kinds
    }
    samples = {kind_of(video): video for video in samples.values()}
    ways = {name: way for name, way in WAYS.items() if name != NVDEC or device().type == "cuda"}
    numbers: Numbers = {}
    for row in table(samples, ways, seconds=size.seconds, patience_seconds=60):
        if row.wrong is not None:
            numbers[f"{row.way}, {row.kind}"] = row.wrong
            continue
        numbers[f"{row.way}, {row.kind}, dB"] = row.psnr or 0.0
        for width, rate in (row.frames_per_second or {}).items():
            numbers[f"{row.way}, {row.kind}, frames/s, {width} at once"] = rate
    return numbers


def loader(bench: GpuBench) -> Numbers:
    """Frames a second of the loader in each way to set it, beside bare decoders on the same
    clips.
    """
    numbers: Numbers = {}
    for codec in bench.size.codecs:
        url = _corpus(bench, codec)
        for decoder in ("pyav", "dali"):
            name = f"loader, {codec}, decoder={decoder}, frames/s"
            numbers[name] = _tried(partial(_loader_rate, bench, url, decoder))
        video = next(iter(samples_of(url).values()))
        numbers[f"bare PyAV, {codec}, frames/s"] = _tried(partial(_bare_pyav, bench, video))
        bare = _tried(partial(_bare_torchcodec, bench, video))
        numbers[f"bare torchcodec, {codec}, {SESSIONS} sessions, frames/s"] = bare
    return numbers


def stall(bench: GpuBench) -> Numbers:
    """The share of its time that a run waits for data, behind real steps."""
    size = bench.size
    precision = "bf16_autocast" if device().type == "cuda" else "fp32"  # a CPU only emulates it
    engine = engine_of(size.backbones[0], size, precision=precision)
    try:
        with _open(bench, _corpus(bench, size.codecs[0]), "auto", engine.model.plan) as batches:
            for _ in range(WARM_STEPS):
                engine.train_step(next(batches), 1e-4)
            began, blocked = time.monotonic(), batches.blocked_seconds["augment"]
            for _ in range(size.steps):
                engine.train_step(next(batches), 1e-4)
            seconds = time.monotonic() - began
            waited = batches.blocked_seconds["augment"] - blocked
    finally:
        engine.release()
    return {"stall, share of a run": waited / seconds, "step, ms": 1000 * seconds / size.steps}


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


def _open(bench: GpuBench, url: str, decoder: str, needs: Needs) -> Loader:
    settings = DataSettings(
        corpora={"main": CorpusSource(url)},
        image_size=bench.size.image_size,
        lanes=bench.size.batch,
        clips_per_lane=1,
        shuffle_window=8,
        decoder=decoder,  # type: ignore[arg-type]
        decode_threads=bench.size.threads,
    )
    place = {"rank": 0, "world_size": 1, "run_folder": bench.work}
    return Loader(settings, needs, seed=0, device=device(), **place)  # type: ignore[arg-type]


def _loader_rate(bench: GpuBench, url: str, decoder: str) -> float:
    view = View(crop=(0.6, 0.8), flip=0.5, brightness=0.2, contrast=0.2, blur=0.5)
    needs = Needs({view: tuple(range(min(16, bench.size.frames)))})
    with _open(bench, url, decoder, needs) as batches:
        for _ in range(WARM_STEPS):
            next(batches)
        began, clips = time.monotonic(), 0
        while time.monotonic() - began < bench.size.seconds or not clips:
            clips += len(next(batches))
        if device().type == "cuda":
            torch.cuda.synchronize()
        return clips * len(needs.views[view]) / (time.monotonic() - began)


def _bare_pyav(bench: GpuBench, video: bytes) -> float:
    threads, decoder = bench.size.threads, Pyav()
    wanted = list(range(bench.size.frames))
    rounds = partial(decoder, [video] * threads, [wanted] * threads)
    return _rate(bench, rounds, threads * len(wanted))


def _bare_torchcodec(bench: GpuBench, video: bytes) -> float:
    from torchcodec.decoders import VideoDecoder

    def decoded(_: int) -> int:
        return len(VideoDecoder(video, device=str(device()))[:])

    with ThreadPoolExecutor(SESSIONS) as pool:
        frames = sum(pool.map(decoded, range(SESSIONS)))
        return _rate(bench, lambda: list(pool.map(decoded, range(SESSIONS))), frames)


def _rate(bench: GpuBench, work: Callable[[], object], frames: int) -> float:
    work()
    began, rounds = time.monotonic(), 0
    while time.monotonic() - began < bench.size.seconds or not rounds:
        work()
        rounds += 1
    return rounds * frames / (time.monotonic() - began)


def _tried(measure: Callable[[], float]) -> float | str:
    """A number, or why there is none: one decoder that is missing must not end the others."""
    try:
        return measure()
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return f"not measured: {' '.join(str(error).split())[:200]}"

"""What a decoder does with clips, tried in a process of its own: it may refuse, hang, or take
the process with it.

    truth.py ──▶ FOLDER/job.json, clips ──▶ python -m ausl_dist.stream.probe FOLDER
        ──▶ FOLDER/00.json, 00.npz, 01.json, ...

A way to decode is a class named by its place, such as `ausl_dist.stream.probe:Nvdec`.
"""

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ausl_dist.files import read_json, write_json
from ausl_dist.stream.ledger import telling_line

AT_ONCE = (1, 4, 8)  # clips that are decoded together when speed is measured
POLL_SECONDS = 0.05

Pictures = list[NDArray[np.uint8]]  # of each clip, RGB T H W 3


class Decoder(Protocol):
    """Decodes several clips at once; raises where it does not take one."""

    def __call__(
        self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]
    ) -> Pictures: ...


@dataclass(frozen=True)
class Trial:
    """One kind of clip to try."""

    sample: bytes
    cards: tuple[bytes, ...]
    frames: int  # of the sample that are decoded
    card_frames: tuple[tuple[int, ...], ...]  # of each card


@dataclass(frozen=True)
class ProbeOutcome:
    """What came of one trial."""

    error: str | None
    sample: NDArray[np.uint8] | None = None
    cards: Sequence[NDArray[np.uint8]] = ()
    frames_per_second: Mapping[int, float] | None = None


class Pyav:
    """FFmpeg on the CPU, a thread for each clip: the way of `data.decoder=pyav`."""

    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        with ThreadPoolExecutor(len(videos)) as pool:
            return list(pool.map(self._frames, videos, wanted))

    @staticmethod
    def _frames(video: bytes, wanted: Sequence[int]) -> NDArray[np.uint8]:
        from ausl_dist.stream.frames import FrameDecoder, whole_frames
        from ausl_dist.stream.mp4 import parse

        return whole_frames(FrameDecoder(), parse(video), wanted)


class DaliCpu:
    """DALI's decoder, as the graph of `data.decoder=dali` has it, alone."""

    device: str = "cpu"

    def __init__(self) -> None:
        self._built: dict[int, Any] = {}

    def __call__(self, videos: Sequence[bytes], wanted: Sequence[Sequence[int]]) -> Pictures:
        pipeline = self._pipeline(len(videos))
        pipeline.feed_input("video", [np.frombuffer(video, np.uint8) for video in videos])
        pipeline.feed_input("wanted", [np.array(frames, np.int32) for frames in wanted])
        (output,) = pipeline.run()
        output = output.as_cpu()
        return [np.array(output.at(place)) for place in range(len(videos))]

    def _pipeline(self, clips: int) -> Any:
        if clips not in self._built:
            from ausl_dist.stream.decode import decoding_graph

            gpu = int(os.environ.get("LOCAL_RANK", "0")) if self.device == "gpu" else None
            self._built[clips] = decoding_graph(
                self.device, clips, threads=clips, device_id=gpu
            )
            self._built[clips].build()
        return self._built[clips]


class Nvdec(DaliCpu):
    """The same, decoded by the GPU's video engines."""

    device = "gpu"


def try_out(
    way: str, trials: Sequence[Trial], folder: Path, *, seconds: float, patience_seconds: float
) -> list[ProbeOutcome]:
    """What a way to decode does with each trial.

    Speed is measured for `seconds` at each width, 0 for not at all. A trial that says nothing
    for `patience_seconds` hangs; after that, or where the process dies, the others go on in a
    new one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, trial in enumerate(trials):
        (folder / f"{number:02d}.mp4").write_bytes(trial.sample)
        for place, card in enumerate(trial.cards):
            (folder / f"{number:02d}-card-{place}.mp4").write_bytes(card)
    plans = [{"frames": t.frames, "cards": [list(f) for f in t.card_frames]} for t in trials]
    ended: dict[int, str] = {}
    while (first := _undone(folder, len(trials), ended)) is not None:
        job = {"way": way, "seconds": seconds, "first": first, "trials": plans}
        write_json(folder / "job.json", job)
        trouble = _run(folder, len(trials), patience_seconds)
        undone = _undone(folder, len(trials), ended)
        if undone is not None:
            ended[undone] = trouble
    return [_read(folder, number, ended.get(number)) for number in range(len(trials))]


def _undone(folder: Path, count: int, ended: Mapping[int, str]) -> int | None:
    left = [n for n in range(count) if not _result(folder, n).exists() and n not in ended]
    return left[0] if left else None


def _result(folder: Path, number: int) -> Path:
    return folder / f"{number:02d}.json"


def _run(folder: Path, count: int, patience_seconds: float) -> str:
    """Run the process to its end, or until it is silent for too long; what was wrong."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    log = folder / "log.txt"
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder)],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            since, done = time.monotonic(), -1
            while process.poll() is None:
                now = sum(_result(folder, number).exists() for number in range(count))
                if now > done:
                    since, done = time.monotonic(), now
                if time.monotonic() - since > patience_seconds:
                    return f"hangs: nothing for {patience_seconds:.0f} s"
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
    if process.returncode < 0:
        return f"the process died of signal {-process.returncode}"
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing said"]
    return f"the process ended with {process.returncode}: {last[0]}"


def _read(folder: Path, number: int, trouble: str | None) -> ProbeOutcome:
    if trouble is not None:
        return ProbeOutcome(trouble)
    said = read_json(_result(folder, number))
    if said["error"] is not None:
        return ProbeOutcome(said["error"])
    with np.load(folder / f"{number:02d}.npz", allow_pickle=False) as arrays:
        cards = [arrays[f"card{place}"] for place in range(len(arrays.files) - 1)]
        speeds = {int(width): rate for width, rate in said["frames_per_second"].items()}
        return ProbeOutcome(None, arrays["sample"], cards, speeds)


def main(folder: Path) -> None:
    """The process: tries one kind after the other, and tells each as soon as it is known."""
    job = read_json(folder / "job.json")
    module, name = job["way"].split(":")
    decoder, log = None, folder / "log.txt"
    for number, plan in enumerate(job["trials"]):
        if number < job["first"] or _result(folder, number).exists():
            continue
        told = log.stat().st_size
        try:
            decoder = decoder or getattr(importlib.import_module(module), name)()
            said = _try(decoder, folder, number, plan, job["seconds"])
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises is what we want to know
            # DALI says why to the console, and only that it failed in the error
            with open(log, "rb") as console:
                console.seek(told)
                heard = console.read().decode(errors="replace")
            said = {"error": telling_line(f"{heard}\n{error}")}
            decoder = None  # a pipeline that met an error is dead
        write_json(_result(folder, number), said)


def _try(
    decoder: Decoder, folder: Path, number: int, plan: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    sample = (folder / f"{number:02d}.mp4").read_bytes()
    cards = [
        (folder / f"{number:02d}-card-{place}.mp4").read_bytes()
        for place in range(len(plan["cards"]))
    ]
    wanted = list(range(plan["frames"]))
    (decoded,) = decoder([sample], [wanted])
    read = decoder(cards, plan["cards"])
    np.savez(
        folder / f"{number:02d}.npz",
        sample=decoded,
        **{f"card{place}": pictures for place, pictures in enumerate(read)},  # type: ignore[arg-type]
    )
    widths = AT_ONCE if seconds else ()
    speeds = {width: _speed(decoder, sample, wanted, width, seconds) for width in widths}
    return {"error": None, "frames_per_second": speeds}


def _speed(
    decoder: Decoder, sample: bytes, wanted: list[int], width: int, seconds: float
) -> float:
    videos, frames = [sample] * width, [wanted] * width
    decoder(videos, frames)  # opens its sessions
    began, rounds = time.monotonic(), 0
    while rounds == 0 or time.monotonic() - began < seconds:
        decoder(videos, frames)
        rounds += 1
    return rounds * width * len(wanted) / (time.monotonic() - began)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

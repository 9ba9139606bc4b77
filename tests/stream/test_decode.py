"""The DALI graph: one for CPU and GPU, the same pixels from either decoder, and no clip that
takes it down.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from ausl_dist.batch import View
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.shards.encode import encode_video
from ausl_dist.stream.augment import draw
from ausl_dist.stream.decode import Graph, GraphPlan, build_graph
from ausl_dist.stream.frames import MAX_SCRATCH, ClipPixels, FrameDecoder, view_frames
from ausl_dist.stream.mp4 import parse
from tests.support.corpora import draw_clip

PLAIN = View()
RICH = View(
    crop=(0.6, 0.8),
    per_frame=True,
    flip=0.5,
    rotation=12.0,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=20.0,
    grey=0.3,
    blur=0.5,
)
SINGLE = View(crop=(0.4, 0.8), flip=1.0)
VIEWS = ((PLAIN, tuple(range(6))), (RICH, (0, 2, 5)), (SINGLE, (4,)))
SIZE = 32


def plan(
    decoder: str = "pyav", device: str = "cpu", threads: int = 1, clips: int = 4
) -> GraphPlan:
    return GraphPlan(VIEWS, SIZE, clips, threads, device, decoder)


@pytest.fixture(scope="module")
def videos() -> list[bytes]:
    return [
        encode_video(draw_clip(number, frames=12, size=64).frames, 25.0) for number in range(4)
    ]


def pixels(video: bytes, key: str, decoded: bool) -> ClipPixels:
    parsed = parse(video)
    draws = {
        view: draw(view, len(offsets), (64, 64), SIZE, seed=0, epoch=0, key=key)
        for view, offsets in VIEWS
    }
    clip = ClipPixels(parsed, 3, draws)
    if decoded:
        clip.pictures = view_frames(FrameDecoder(), parsed, dict(VIEWS), draws, 3)
    return clip


def equal(one: dict[View, torch.Tensor], other: dict[View, torch.Tensor]) -> bool:
    return all(torch.equal(one[view], other[view]) for view in one)


def test_the_output_is_normalised_and_laid_out_as_the_batch_says(videos: list[bytes]) -> None:
    clips = [pixels(video, str(number), True) for number, video in enumerate(videos)]
    frames, damaged = Graph(plan()).run(clips)
    assert damaged == {}
    assert frames[PLAIN].shape == (4, 6, 3, SIZE, SIZE)
    assert frames[RICH].shape == (4, 3, 3, SIZE, SIZE)
    assert frames[PLAIN].dtype == torch.float32
    assert frames[PLAIN].is_contiguous()
    pictures = np.stack([clip.pictures[PLAIN] for clip in clips if clip.pictures])  # B T H W C
    expected = (pictures / 255.0 - PIXEL_MEAN) / PIXEL_STD
    assert np.abs(frames[PLAIN].numpy() - expected.transpose(0, 1, 4, 2, 3)).max() < 1e-5


def test_pixels_do_not_depend_on_threads_place_or_what_came_before(videos: list[bytes]) -> None:
    clips = [pixels(video, str(number), True) for number, video in enumerate(videos)]
    reference, _ = Graph(plan()).run(clips)
    graph = Graph(plan(threads=3))
    for _ in range(3):
        again, _ = graph.run(clips)
        assert equal(reference, again)
    turned, _ = graph.run(clips[::-1])
    assert equal(reference, {view: frames.flip(0) for view, frames in turned.items()})


def test_memory_that_is_kept_from_frame_to_frame_changes_no_picture(
    videos: list[bytes],
) -> None:
    views = [
        View(),
        View(flip=1.0),
        View(flip=1.0, draw=1),
        View(crop=(1.0, 1.0), centre=1.0),
        View(rotation=8.0),
    ]
    offsets = dict.fromkeys(views, (0, 2, 5))

    def pictures(video: bytes, key: str, decoder: FrameDecoder) -> dict[View, np.ndarray]:
        parsed = parse(video)
        frame_size = parsed.height, parsed.width
        drawn = {
            view: draw(view, 3, frame_size, 48, seed=0, epoch=0, key=key) for view in views
        }
        return view_frames(decoder, parsed, offsets, drawn, 0)

    kept = FrameDecoder()
    for number, video in enumerate(videos * 2):
        found, fresh = (
            pictures(video, str(number), kept),
            pictures(video, str(number), FrameDecoder()),
        )
        assert all(np.array_equal(found[view], fresh[view]) for view in views)


def test_memory_for_frames_of_ever_other_sizes_is_bounded() -> None:
    decoder = FrameDecoder()
    assert decoder.scratch("y", 0, 8, 8) is decoder.scratch("y", 0, 8, 8)
    for side in range(1, 3 * MAX_SCRATCH):
        decoder.scratch("y", 0, side, side)
    assert len(decoder._scratch) <= MAX_SCRATCH


def test_both_decoders_give_the_same_picture(videos: list[bytes]) -> None:
    """DALI decodes, halves and warps on its own; ours must be the same geometry and the same
    colours to a grey level.
    """
    ours, _ = Graph(plan()).run(
        [pixels(video, str(number), True) for number, video in enumerate(videos)]
    )
    dalis, _ = Graph(plan("dali")).run(
        [pixels(video, str(number), False) for number, video in enumerate(videos)]
    )
    for view in ours:
        difference = (ours[view] - dalis[view]).abs() * 255 * np.mean(PIXEL_STD)
        assert difference.mean() < 3.0, f"{view}: {difference.mean():.2f} grey levels"


def test_tensors_keep_their_values_while_the_graph_goes_on(videos: list[bytes]) -> None:
    """They are handed over without a copy: if the graph wrote into them again, training would
    read another step's frames.
    """
    graph = Graph(plan())
    clips = [pixels(video, str(number), True) for number, video in enumerate(videos)]
    kept, copies = [], []
    for step in range(8):
        for clip in clips:
            assert clip.pictures is not None
            clip.pictures = {
                view: np.full_like(picture, 20 * step)
                for view, picture in clip.pictures.items()
            }
        frames, _ = graph.run(clips)
        kept.append(frames[PLAIN])
        copies.append(frames[PLAIN].clone())
    del graph
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies, strict=True))
    assert len({tensor.data_ptr() for tensor in kept}) == len(kept)


def test_places_of_missing_clips_hold_zeros(videos: list[bytes]) -> None:
    clip = pixels(videos[0], "0", True)
    frames, _ = Graph(plan()).run([None, clip, None, clip])
    assert not frames[RICH][[0, 2]].any()
    assert frames[RICH][1].any()
    frames, _ = Graph(plan()).run([None] * 4)
    assert frames[PLAIN].shape == (4, 6, 3, SIZE, SIZE)
    assert not frames[PLAIN].any()


def test_a_clip_that_dali_cannot_decode_is_named_and_the_graph_lives_on(
    videos: list[bytes],
) -> None:
    damaged = bytearray(videos[1])
    start, end = damaged.index(b"mdat") + 4, damaged.index(b"moov") - 4
    damaged[start:end] = bytes(end - start)
    graph = Graph(plan("dali"))
    clips = [pixels(video, str(number), False) for number, video in enumerate(videos)]
    reference, _ = graph.run(clips)
    broken = [clips[0], pixels(bytes(damaged), "1", False), *clips[2:]]
    frames, found = graph.run(broken)
    assert list(found) == [1]
    assert not frames[PLAIN][1].any()
    for place in (0, 2, 3):
        assert torch.equal(frames[PLAIN][place], reference[PLAIN][place])
    assert equal(graph.run(clips)[0], reference)


@pytest.mark.parametrize("decoder", ["dali", "pyav"])
def test_the_graph_for_a_gpu_is_the_same_graph(decoder: str) -> None:
    """It cannot run here, but it must construct and serialise: names of operators, devices and
    inputs are checked by that.
    """
    graph = build_graph(plan(decoder, "gpu"), device_id=None)
    serialised = graph.serialize()
    assert len(serialised) > 1000
    assert (b"decoders__Video" in serialised or b"decoders.video" in serialised.lower()) == (
        decoder == "dali"
    )


def test_what_ffmpeg_decoded_crosses_to_the_gpu_as_bytes() -> None:
    """Colour, blur and normalisation are then the GPU's work: nothing but inputs runs on the
    CPU.
    """
    serialised = build_graph(plan("pyav", "gpu"), device_id=None).serialize()
    for operator in (b"ColorTwist", b"GaussianBlur", b"CropMirrorNormalize"):
        start = serialised.index(operator)
        assert b"gpu" in serialised[start : start + 4000].split(b"device", 1)[1][:40]


def refusing(monkeypatch: pytest.MonkeyPatch, is_refused: Callable[[bytes], bool]) -> None:
    """DALI's decoder takes no batch with such a clip in it, as NVDEC takes no frames of 64
    pixels.
    """
    given = Graph._run

    def run(self: Graph, clips: Sequence[ClipPixels | None]) -> dict[View, torch.Tensor]:
        if self.plan.decoder == "dali" and any(c and is_refused(c.video.data) for c in clips):
            self._pipeline = self._build()
            raise RuntimeError("Error in MIXED operator: resolution is not supported")
        return given(self, clips)

    monkeypatch.setattr(Graph, "_run", run)


def test_a_clip_that_dali_refuses_and_ffmpeg_decodes_is_served_and_counted(
    videos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [pixels(video, str(number), False) for number, video in enumerate(videos)]
    reference, _ = Graph(plan("dali")).run(clips)
    ours, _ = Graph(plan()).run([pixels(v, str(n), True) for n, v in enumerate(videos)])
    refusing(monkeypatch, lambda data: data == videos[2])
    graph = Graph(plan("dali"))
    frames, damaged = graph.run([*clips[:3], None])
    assert damaged == {}
    assert graph.refused == 1
    for view in frames:
        assert torch.equal(frames[view][:2], reference[view][:2])
        assert torch.equal(frames[view][2], ours[view][2])
        assert not frames[view][3].any()


def test_a_corpus_that_the_decoder_refuses_ends_the_run_with_what_to_type(
    videos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [pixels(video, str(number), False) for number, video in enumerate(videos)]
    refusing(monkeypatch, lambda data: True)
    graph = Graph(plan("dali"))
    for _ in range(4):
        graph.run(clips)
    with pytest.raises(ValueError, match=r"resolution is not supported.*data\.decoder=pyav"):
        graph.run(clips)

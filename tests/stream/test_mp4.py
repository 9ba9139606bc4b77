"""The sample table: the same packets that FFmpeg finds, and no crash or endless loop whatever
the bytes.
"""

import io
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ausl_dist.shards.encode import encode_video
from ausl_dist.stream.cards import kind_of
from ausl_dist.stream.frames import FrameDecoder
from ausl_dist.stream.mp4 import VideoError, parse
from tests.support.corpora import draw_clip
from tests.support.fuzz import bounded, inputs, patience, peak, reset_peak
from tests.support.videos import write_absurd_header

MUTANTS = inputs(1000)


def encode_with_b_frames(frames: np.ndarray, **options: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(25), options={"bf": "3", "g": "16", **options}
        )
        stream.width, stream.height, stream.pix_fmt = (
            frames.shape[2],
            frames.shape[1],
            "yuv420p",
        )
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def ffmpeg_luma(video: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def videos() -> dict[str, bytes]:
    frames = draw_clip(1, frames=40, size=64).frames
    return {
        "vp9": encode_video(frames, 25.0, "vp9"),
        "h264": encode_video(frames, 25.0, "h264"),
        "h264 with B-frames": encode_with_b_frames(frames),
        "mjpeg": encode_video(frames, 25.0, "mjpeg"),
    }


@pytest.mark.parametrize("name", ["vp9", "h264", "h264 with B-frames", "mjpeg"])
def test_any_frame_decodes_as_in_a_full_decode(videos: dict[str, bytes], name: str) -> None:
    expected = ffmpeg_luma(videos[name])
    video = parse(videos[name])
    assert (video.frames, video.height, video.width) == (40, 64, 64)
    decoder = FrameDecoder()
    for wanted in ([0], [39], [17, 18, 30], [5, 6, 7], list(range(40)), [15, 16]):
        got = list(decoder.decode(video, wanted))
        assert [number for number, _ in got] == wanted
        for number, frame in got:
            assert np.array_equal(frame.to_ndarray(format="gray"), expected[number]), (
                f"frame {number} of {wanted}"
            )


def test_mpeg4_video_is_not_taken_for_motion_jpeg(videos: dict[str, bytes]) -> None:
    entry = videos["mjpeg"].index(b"esds")
    kind = videos["mjpeg"].index(b"\x6c", entry)
    with pytest.raises(VideoError, match="Motion JPEG"):
        parse(videos["mjpeg"][:kind] + b"\x20" + videos["mjpeg"][kind + 1 :])


def test_packets_start_at_the_keyframe_before_and_end_with_the_last_wanted_frame(
    videos: dict[str, bytes],
) -> None:
    video = parse(videos["vp9"])
    assert [number for number, _ in video.packets(20, 22)] == list(range(16, 23))


def test_a_track_of_sound_is_passed_over() -> None:
    frames = draw_clip(2, frames=4, size=32).frames
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=48000)
        picture = container.add_stream("libx264", rate=Fraction(25))
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        samples = av.AudioFrame.from_ndarray(
            np.zeros((1, 4096), np.float32), format="fltp", layout="mono"
        )
        samples.sample_rate = 48000
        container.mux(sound.encode(samples))
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    video = parse(buffer.getvalue())
    assert (video.codec, video.frames) == ("h264", 4)
    assert len(list(FrameDecoder().decode(video, range(4)))) == 4


@pytest.mark.parametrize(
    ("video", "complaint"),
    [
        (b"", "not a readable mp4"),
        (b"no mp4 at all" * 50, "reaches outside"),
        (b"\0\0\0\x08free" * 2000, "more than 1000 boxes"),
    ],
)
def test_what_is_no_mp4_is_refused(video: bytes, complaint: str) -> None:
    with pytest.raises(VideoError, match=complaint):
        parse(video)


def test_another_codec_is_named() -> None:
    frames = draw_clip(2, frames=3, size=32).frames
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="mp4v"):
        parse(buffer.getvalue())


def test_a_fragmented_file_is_refused_with_its_cure(videos: dict[str, bytes]) -> None:
    source, target = io.BytesIO(videos["h264"]), io.BytesIO()
    with (
        av.open(source) as reader,
        av.open(
            target, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}
        ) as writer,
    ):
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    with pytest.raises(VideoError, match="fragmented"):
        parse(target.getvalue())


def test_a_clip_whose_pictures_claim_a_great_size_takes_no_memory(tmp_path: Path) -> None:
    video = parse(write_absurd_header(tmp_path / "a.mp4").read_bytes())
    assert (video.width, video.height) == (64, 64)
    decoder = FrameDecoder()
    reset_peak()
    before = peak()
    with pytest.raises(VideoError):
        list(decoder.decode(video, [0]))
    with pytest.raises(VideoError):
        kind_of(video.data)
    assert peak() - before < 64 << 20


@patience
@pytest.mark.parametrize("name", ["vp9", "h264 with B-frames", "mjpeg"])
def test_mutated_clips_decode_or_are_refused(videos: dict[str, bytes], name: str) -> None:
    """Damage is put where it hurts: half of it in the tables, half in the compressed frames."""
    original = videos[name]
    tables = original.index(b"moov")
    chance = random.Random(1)
    decoder = FrameDecoder()
    outcomes = {"decoded": 0, "refused": 0}
    for number in bounded(MUTANTS):
        mutant = bytearray(original)
        for _ in range(chance.choice([1, 1, 3, 10])):
            place = (
                chance.randrange(tables, len(mutant))
                if number % 2
                else chance.randrange(len(mutant))
            )
            mutant[place] = chance.choice([0, 255, 127, chance.randrange(256)])
        if chance.random() < 0.1:
            del mutant[chance.randrange(len(mutant)) :]
        try:
            video = parse(bytes(mutant))
            if number % 5 == 0:
                list(decoder.decode(video, range(min(video.frames, 3))))
            outcomes["decoded"] += 1
        except VideoError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > MUTANTS / 50
    clean = list(decoder.decode(parse(original), [3]))
    assert np.array_equal(clean[0][1].to_ndarray(format="gray"), ffmpeg_luma(original)[3]), (
        "damage must not reach the next clip"
    )

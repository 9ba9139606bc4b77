"""Bytes changed at random in whatever comes from outside: it is read, or refused with a
sentence, and never ends a job otherwise.
"""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ausl_dist.corpus.layouts import LAYOUTS, layout
from ausl_dist.corpus.sources import MAX_TEXT, collect
from ausl_dist.faces.decode import Unreadable
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.faces.video import FrameReader
from ausl_dist.shards.clip import ClipMeta
from ausl_dist.shards.reader import clips_in
from ausl_dist.shards.writer import clip_blocks
from tests.support.fuzz import bounded, inputs, patience
from tests.support.videos import moving_frames, write_video

pytestmark = patience
KINDS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("a.mkv", "libvpx-vp9", "yuv420p"),
    ("a.avi", "mpeg4", "yuv420p"),
    ("a.mpg", "mpeg1video", "yuv420p"),
    ("a.wmv", "wmv2", "yuv420p"),
    ("a.gif", "gif", "rgb8"),
]
ROWS = st.text(alphabet=st.sampled_from('fileidntylc,.mp4"\n\r\x00 ab'), max_size=120)
TABLES = ROWS.map("file,identity\n".__add__) | st.text(max_size=60)


@pytest.mark.parametrize(("name", "codec", "pixel_format"), KINDS)
def test_a_video_with_changed_bytes_gives_frames_or_a_reason(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    path = write_video(
        tmp_path / name,
        moving_frames(12, width=64, height=64),
        codec=codec,
        pixel_format=pixel_format,
    )
    whole = path.read_bytes()
    header = np.arange(len(whole))[-1000:] if name == "a.mp4" else np.arange(len(whole))[:1000]
    for seed in bounded(inputs(24 * len(KINDS)) // len(KINDS)):
        random, data = np.random.default_rng(seed), bytearray(whole)
        for place in random.choice(header if seed % 2 else len(whole), random.integers(1, 12)):
            data[place] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            reader = FrameReader(path, ReadSettings(max_seconds=60))
            frames = list(reader)
        except Unreadable:
            continue
        assert len(frames) <= reader.frames <= 60 * 25 + 1
        assert reader.missing_frames >= 0


@settings(deadline=None, max_examples=inputs(100))
@given(
    text=st.text(alphabet=st.sampled_from('fileidntylc,.mp4"\n\r\x00 ab'), max_size=120).map(
        "file,identity\n".__add__
    )
    | st.text(max_size=60)
)
def test_any_table_of_identities_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        video, table = Path(folder) / "a.mp4", Path(folder) / "people.csv"
        video.touch()
        table.write_text(text)
        try:
            found = collect([str(video)], layout("plain"), table=table)
        except ValueError:
            return
    assert found.sources[0].name == "a.mp4"


def test_a_field_that_no_clip_can_hold_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    for length in (MAX_TEXT + 1, 200_000):
        (tmp_path / "people.csv").write_text(f"file,identity\na.mp4,{'x' * length}\n")
        with pytest.raises(ValueError, match=r"a\.mp4|people\.csv"):
            collect([str(tmp_path / "a.mp4")], layout("plain"), table=tmp_path / "people.csv")


@settings(deadline=None, max_examples=inputs(100))
@given(
    path=st.text(alphabet=st.sampled_from("id0123/_.-abmp4 \u00e4"), min_size=1, max_size=60),
    name=st.sampled_from(sorted(LAYOUTS)),
)
def test_any_path_fits_a_layout_or_is_refused(path: str, name: str) -> None:
    try:
        identity, source = layout(name).read(path)
    except ValueError:
        return
    assert source
    assert identity is None or identity


@settings(deadline=None, max_examples=inputs(100))
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 4607), st.integers(0, 255)), min_size=1, max_size=4
    ),
    cut=st.integers(0, 6000),
)
def test_a_shard_with_changed_bytes_is_read_or_refused(
    changes: list[tuple[int, int]], cut: int
) -> None:
    meta = ClipMeta("a.mp4", "a", "CC0", 25.0, 0.0, 3, "d", "a")
    data = bytearray(
        clip_blocks("a", meta, b"video", np.zeros((3, 68, 2), np.float16)) + bytes(1024)
    )
    for place, value in changes:
        data[place] = value
    try:
        for stored in clips_in(io.BytesIO(data[:cut])):
            assert stored.meta.frames > 0
    except ValueError:  # TarError is one
        return

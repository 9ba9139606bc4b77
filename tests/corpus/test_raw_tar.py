"""WebDataset shards that a lab has, of videos or of frames, are input like any other."""

import json
import tarfile
from pathlib import Path

import cv2
import pytest

from ausl_dist.corpus.bring import bring
from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.sources import Source, collect
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.faces.video import FrameReader
from tests.support.fuzz import fuzz, inputs, patience
from tests.support.tars import write_tar
from tests.support.videos import moving_frames, number_of, numbered_frames, write_video

PLAIN = layout("plain")


def jpeg(number: int) -> bytes:
    return cv2.imencode(".jpg", numbered_frames(number + 1)[-1])[1].tobytes()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return write_video(path, moving_frames(12)).read_bytes()


def numbers(source: Source, folder: Path) -> list[int]:
    """Which of `numbered_frames` a source shows."""
    folder.mkdir(exist_ok=True)
    path = bring(source.location, folder, lambda size: None)
    return [number_of(frame.pixels) for frame in FrameReader(path, ReadSettings())]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_videos_with_keys_in_folders_and_captions(
    tmp_path: Path, video: bytes, form: int
) -> None:
    long = "/".join(["deep" * 6] * 4) + "/vid2" if form != tarfile.USTAR_FORMAT else "vid2"
    members = {
        "sub/vid0.json": json.dumps({"caption": "a smile", "speaker": "anna", "box": [1, 2]}),
        "sub/vid0.mp4": video,
        "sub/vid1.cls": "7",
        "sub/vid1.mp4": video,
        "sub/vid1.txt": "no smile",
        f"{long}.mp4": video,
        "._vid3.mp4": b"\0\5\x16\7",
        "notes.md": "nothing",
    }
    tar = write_tar(tmp_path / "in" / "00000.tar", members, form)
    for place in (str(tar), str(tar.parent), f"{tar.parent}/*.tar", tar.as_uri()):
        found = collect([place], PLAIN, identity_field="speaker").sources
        assert [source.name for source in found] == sorted(
            ["sub/vid0.mp4", "sub/vid1.mp4", f"{long}.mp4"]
        )
        first, second = (s for s in found if s.name.startswith("sub"))
        assert (first.identity, dict(first.about)) == (
            "anna",
            {"caption": "a smile", "speaker": "anna"},
        )
        assert (second.identity, dict(second.about)) == (
            None,
            {"class": "7", "caption": "no smile"},
        )
        for source in found:
            path = bring(source.location, tmp_path, lambda size: None)
            assert path.read_bytes() == video


def test_videos_whose_names_share_what_stands_before_a_dot_are_each_one(tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{n}.mp4", moving_frames(4 + n)) for n in range(4)]
    first, second, third, fourth = (path.read_bytes() for path in videos)
    members = {
        "id1.a.00001.json": '{"speaker": "anna", "word": "yes"}',
        "id1.a.00001.mp4": first,
        "id1.a.00002.mp4": second,
        "id1.json": '{"speaker": "anna"}',
        "2020.01.01.mp4": third,
    }
    tar = write_tar(tmp_path / "a.tar", members)
    with tarfile.open(tar, "a") as more:  # another of the same name, as `tar -r` adds it
        more.add(videos[3], "2020.01.01.mp4")
    found = collect([str(tar)], PLAIN, identity_field="speaker").sources
    contents = {}
    for source in found:
        (folder := tmp_path / source.location.rpartition("#")[2]).mkdir()
        contents[source.name] = bring(source.location, folder, lambda size: None).read_bytes()
    again = next(name for name in contents if "@" in name)
    assert contents == {
        "2020.01.01.mp4": third,
        again: fourth,
        "id1.a.00001.mp4": first,
        "id1.a.00002.mp4": second,
    }
    assert again.startswith("2020.01.01.mp4@")
    assert [dict(source.about) for source in found if source.identity == "anna"] == [
        {"speaker": "anna", "word": "yes"},
        {"speaker": "anna"},
    ]


@pytest.mark.parametrize(
    "names", ["vid{v}.{n:04d}", "vid{v}/{n:04d}", "vid{v}_{n:06d}", "a/b{v}/f-{n}"]
)
@pytest.mark.parametrize("order", [("cls", "jpg"), ("jpg", "cls")])
def test_frames_beside_a_class_are_the_frames_of_a_video(
    tmp_path: Path, names: str, order: tuple[str, str]
) -> None:
    members: dict[str, bytes | str] = {}
    for video_number in (0, 1):
        for frame in range(1, 6):
            stem = names.format(v=video_number, n=frame)
            both = {"jpg": jpeg(10 * video_number + frame), "cls": str(video_number)}
            if "." in stem:
                members[f"vid{video_number}.cls"] = str(video_number)
                both.pop("cls")
            members.update({f"{stem}.{kind}": both[kind] for kind in order if kind in both})
    found = collect(
        [str(write_tar(tmp_path / "a.tar", members))], PLAIN, identity_field="class"
    )
    assert len(found.sources) == 2
    for video_number, source in enumerate(found.sources):
        assert (source.identity, dict(source.about)) == (
            str(video_number),
            {"class": str(video_number)},
        )
        shown = numbers(source, tmp_path / str(video_number))
        assert shown == [10 * video_number + frame for frame in range(1, 6)]


def test_keys_that_shards_repeat_are_told_apart_by_the_shard(
    tmp_path: Path, video: bytes
) -> None:
    for shard in ("train/0", "train/1", "val/0"):
        write_tar(
            tmp_path / f"{shard}.tar", {"000.mp4": video, f"{shard[-1]}-{shard[0]}.mp4": video}
        )
    found = collect([str(tmp_path)], PLAIN).sources
    assert [source.name for source in found] == [
        *("0-t.mp4", "0-v.mp4", "1-t.mp4"),
        *("train/0/000.mp4", "train/1/000.mp4", "val/0/000.mp4"),
    ]


def test_an_identity_follows_from_the_key_by_a_rule(tmp_path: Path, video: bytes) -> None:
    tar = write_tar(tmp_path / "a.tar", {"id00012/x/1.mp4": video, "id00013/x/1.mp4": video})
    found = collect([str(tar)], layout("voxceleb2")).sources
    assert [source.identity for source in found] == ["id00012", "id00013"]


def test_pictures_of_several_classes_are_no_video(tmp_path: Path) -> None:
    members = {
        f"{n:05d}.{kind}": (jpeg(n) if kind == "jpg" else str(n))
        for n in range(9)
        for kind in ("cls", "jpg")
    }
    with pytest.raises(ValueError, match="no video in"):
        collect([str(write_tar(tmp_path / "a.tar", members))], PLAIN)


def test_what_is_no_plain_tar_is_refused_by_name(tmp_path: Path, video: bytes) -> None:
    tar = write_tar(tmp_path / "a.tar", {"a.mp4": video})
    tar.write_bytes(tar.read_bytes()[:-9000])
    with pytest.raises(ValueError, match=r"a\.tar: tar is cut short"):
        collect([str(tar)], PLAIN)
    tar.write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(ValueError, match=r"a\.tar: a compressed file"):
        collect([str(tar)], PLAIN)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_place_of_a_video_is_told_and_others_are_passed_over(
    tmp_path: Path, video: bytes, kind: bytes
) -> None:
    def linked(name: str) -> Path:
        tar = write_tar(tmp_path / "a.tar", {"a.mp4": video})
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, "a.mp4"
        with tarfile.open(tar, "a") as archive:
            archive.addfile(link)
        return tar

    with pytest.raises(ValueError, match=r"'b\.mp4' at byte \d+ is a link.*--dereference"):
        collect([str(linked("b.mp4"))], PLAIN)
    assert [source.name for source in collect([str(linked("README"))], PLAIN).sources] == [
        "a.mp4"
    ]


@patience
def test_any_shard_is_read_or_refused(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {
        "a.json": "{}",
        "a.mp4": b"video",
        "b/1.jpg": b"x",
        "b/2.jpg": b"y",
    }
    tar = write_tar(tmp_path / "a.tar", members, tarfile.GNU_FORMAT)
    (tmp_path / "out").mkdir()

    def read() -> None:
        for source in collect([str(tar)], PLAIN).sources:
            bring(source.location, tmp_path / "out", lambda size: None)

    read()
    count = inputs(300)
    assert sum(1 for _ in fuzz([tar], read, count)) == count

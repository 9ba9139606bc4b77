"""Shards go both ways between this project and the loaders people use: theirs train here, ours
open there.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import webdataset

from ausl_dist.batch import Needs, View
from ausl_dist.corpus.adopt import adopt
from ausl_dist.shards.reader import read_clips
from ausl_dist.stream.loader import Loader
from ausl_dist.stream.settings import CorpusSource, DataSettings
from tests.support.corpora import make_corpus

pytestmark = pytest.mark.timeout(120)

CLIPS = 8
VIEW = View(flip=0.5)
# where tools/bench_stream.py --peers puts them
PEERS = Path(__file__).parents[2] / "runs" / "bench-stream" / "peers" / "bin"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # In one chunk, as the indexing tool will make of the other's shard: chunks are what the
    # order shuffles.
    folder = tmp_path_factory.mktemp("corpus")
    return make_corpus(
        folder,
        clips=CLIPS,
        frames=8,
        size=64,
        action_units=True,
        shard_bytes=8 << 20,
        chunk_bytes=8 << 20,
    )


def first_batches(
    corpus: Path, run_folder: Path
) -> list[tuple[tuple[str, ...], torch.Tensor, torch.Tensor]]:
    settings = DataSettings(
        {"main": CorpusSource(str(corpus))},
        image_size=32,
        lanes=2,
        clips_per_lane=2,
        shuffle_window=4,
    )
    plan = Needs.union([Needs({VIEW: (0, 3)}, landmarks=True)])
    with Loader(settings, plan, seed=1, rank=0, world_size=1, run_folder=run_folder) as loader:
        batches = [next(loader) for _ in range(4)]
    assert all(batch.weight.all() for batch in batches)
    return [(batch.keys, batch.frames[VIEW], batch.landmarks[VIEW]) for batch in batches]


def test_shards_of_plain_webdataset_train_here_once_they_are_indexed(
    corpus: Path, tmp_path: Path
) -> None:
    """The same clips give the same batches, whoever packed them: its tars have pax headers and
    owners that ours have not.
    """
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with webdataset.TarWriter(str(theirs / "other-000.tar")) as writer:
        for clip in (
            clip for path in sorted(corpus.glob("*.tar")) for clip in read_clips(path)
        ):
            writer.write({"__key__": clip.key, **clip.members})
    adopt(str(theirs))
    found, wanted = first_batches(theirs, tmp_path), first_batches(corpus, tmp_path)
    for one, other in zip(found, wanted, strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
        assert torch.equal(one[2], other[2])


def test_the_builders_shards_pass_energons_prepare_and_lint(
    corpus: Path, tmp_path: Path
) -> None:
    energon = shutil.which("energon", path=f"{os.environ['PATH']}:{PEERS}")
    if energon is None:
        pytest.skip(
            "energon is not installed: `python -m tools.bench_stream --peers` makes an environment "
            "with it"
        )
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    fields = json.dumps({"image": "mp4", "caption": "json"})
    options = [
        "--non-interactive",
        "--num-workers",
        "1",
        "--split-parts",
        "train:.*",
        "--sample-type",
        "CaptioningSample",
    ]
    for arguments in (
        ["prepare", *options, "--field-map", fields],
        ["lint", "--split-parts", "train"],
    ):
        done = subprocess.run(
            [energon, *arguments, str(folder)],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    counted = json.loads((folder / ".nv-meta" / ".info.json").read_text())["shard_counts"]
    assert sum(counted.values()) == CLIPS

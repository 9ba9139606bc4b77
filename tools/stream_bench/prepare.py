"""The clips of the benchmark, and the same clips in the formats of the peers.

A few hundred rendered clips would fit into every cache; so each is repeated under other keys
until the corpus does not.
"""

import subprocess
import sys
from pathlib import Path

from ausl_dist.shards import storage
from ausl_dist.shards.index import scan_shard, write_index
from ausl_dist.shards.reader import StoredClip, read_clips
from ausl_dist.shards.writer import ShardWriter

IDENTITIES, CLIPS_EACH, SECONDS, FPS, PIXELS = 16, 4, 1.28, 25, 256
SHARD_BYTES = 16 << 20


def render(folder: Path) -> Path:
    """Rendered faces of 256 pixels, 32 frames each."""
    options = [
        "--identities",
        IDENTITIES,
        "--clips",
        CLIPS_EACH,
        "--seconds",
        SECONDS,
        "--fps",
        FPS,
        "--size",
        PIXELS,
        "--out",
        folder,
    ]
    subprocess.run([sys.executable, "-m", "tools.render_world", *map(str, options)], check=True)
    return folder


def repeat(source: Path, target: Path, copies: int) -> Path:
    """Shards with every clip of `source` `copies` times, indexed; does nothing when they are
    there.
    """
    if (target / "index.json").exists():
        return target
    clips = [clip for path in sorted(source.glob("*.tar")) for clip in read_clips(path)]
    writer = ShardWriter(target, max_bytes=SHARD_BYTES)
    for copy in range(copies):
        for clip in clips:
            writer.add_blocks(StoredClip(f"{clip.key}-{copy:04d}", clip.members).blocks)
    shards = writer.close()
    write_index(str(target), [scan_shard(path, path.name) for path in shards])
    return target


def upload(folder: Path, url: str) -> None:
    """Every file of a folder to `url`, with its path in the folder."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        storage.upload(path, storage.join(url, str(path.relative_to(folder))))

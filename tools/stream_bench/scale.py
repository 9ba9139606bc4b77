"""What a corpus of a billion clips costs a rank: its index and its order, in a process of their
own.

    python -m tools.stream_bench.scale FOLDER

Writes a synthetic index there, opens it in a fresh process and prints what that took.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import xxhash

from ausl_dist.shards.index import CHUNK_DTYPE, CHUNKS_NAME, INDEX_NAME, Index
from ausl_dist.shards.sealed import sealed_json
from ausl_dist.stream.order import Order

CHUNKS, CLIPS_A_CHUNK, CHUNKS_A_SHARD, CHUNK_BYTES, FRAMES = 6_250_000, 160, 32, 8 << 20, 32
LANES, CLIPS_ASKED = 64, 5000


def write_synthetic(folder: Path) -> None:
    """An index of a billion clips in shards that do not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    number = np.arange(CHUNKS)
    table = np.zeros(CHUNKS, CHUNK_DTYPE)
    table["clips"], table["bytes"] = CLIPS_A_CHUNK, CHUNK_BYTES
    table["shard"] = number // CHUNKS_A_SHARD
    table["offset_blocks"] = number % CHUNKS_A_SHARD * CHUNK_BYTES // 512
    np.save(folder / CHUNKS_NAME, table)
    clips, shards = CLIPS_A_CHUNK * CHUNKS_A_SHARD, -(-CHUNKS // CHUNKS_A_SHARD)
    shard = {
        "bytes": CHUNKS_A_SHARD * CHUNK_BYTES + 1024,
        "sha256": "0" * 64,
        "clips": clips,
        "frames": clips * FRAMES,
    }
    total = CLIPS_A_CHUNK * CHUNKS
    summary = {
        "format": 1,
        "clips": total,
        "frames": total * FRAMES,
        "min_frames": FRAMES,
        "fps": 25.0,
        "chunks": CHUNKS,
        "chunks_xxh3_128": xxhash.xxh3_128_hexdigest(table.view(np.uint8).data),
        "shards": [
            {"name": f"shard-{place:06d}.tar", "min_frames": FRAMES, **shard}
            for place in range(shards)
        ],
    }
    (folder / INDEX_NAME).write_bytes(sealed_json(summary))


def ask(folder: Path) -> str:
    """Open the index and ask for clips of the middle of the first epoch, in this process."""
    start = time.process_time()
    index = Index.load(str(folder))
    order = Order(
        {"main": index.chunks["clips"]},
        {"main": 1},
        seed=0,
        lanes=LANES,
        clips_per_lane=4,
        window=1024,
    )
    order.slot(0, 0)
    opened = time.process_time() - start
    start = time.process_time()
    for number in range(CLIPS_ASKED):
        order.slot(number % LANES, index.num_clips // LANES // 2 + 64 * number)
    clip = (time.process_time() - start) / CLIPS_ASKED
    # ru_maxrss would be inherited
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    return (
        f"{index.num_clips:,} clips: opened in {opened:.1f} s, {1e6 * clip:.0f} µs a clip, "
        f"{peak:.0f} MB of memory"
    )


def measure(folder: Path) -> str:
    """Write the index if it is not there, and `ask` a fresh process."""
    if not (folder / INDEX_NAME).exists():
        write_synthetic(folder)
    program = [sys.executable, "-m", "tools.stream_bench.scale", "--ask", str(folder)]
    return subprocess.run(
        program, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout.strip()


if __name__ == "__main__":
    print(ask(Path(sys.argv[2])) if sys.argv[1] == "--ask" else measure(Path(sys.argv[1])))

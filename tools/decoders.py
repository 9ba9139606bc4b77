"""Which decoders tell the truth about a corpus, and which to type.

    python -m tools.decoders URL

Decodes a clip of each kind in the corpus by every way there is on this machine: FFmpeg, DALI on
the CPU, DALI with NVDEC. Says of each whether it works, how far its pixels are from FFmpeg's,
whether frames are the ones asked for, and how many frames a second it gives with 1, 4 and 8
clips at once. Exit code 1 where no way is right.
"""

import argparse

from ausl_dist import command
from ausl_dist.stream.truth import NVDEC, WAYS, choose, samples_of, table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="a corpus: a folder, or s3://bucket/prefix")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="for each measurement of speed; 0: none"
    )
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds until a silent decoder hangs"
    )
    arguments = parser.parse_args()
    import torch

    gpu = torch.cuda.is_available()
    ways = {name: way for name, way in WAYS.items() if gpu or name != NVDEC}
    rows = table(
        samples_of(arguments.url),
        ways,
        seconds=arguments.seconds,
        patience_seconds=arguments.patience,
    )
    for name in WAYS:
        print(name)
        for row in rows:
            if row.way == name:
                print(f"    {row}")
        if name not in ways:
            print("    not tried: torch sees no GPU here")
    choice = choose(rows, gpu=gpu)
    print(f"type data.device={choice.device} data.decoder={choice.decoder}: {choice.why}")
    return 0


if __name__ == "__main__":
    command.run(main)

"""Turn raw face video into a corpus: aligned, checked clips in shards, with an index and an
account of every second.

    python -m tools.build_corpus INPUT ... --out s3://bucket/name|DIR

INPUT is a folder, a file, a glob in quotes, a list of paths (.txt), WebDataset shards (.tar) of
videos or of frames, a Parquet file or a Hugging Face data set of videos, or an s3:// prefix.
Run the same command again to go on after a kill; when everything is done it does nothing.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ausl_dist import command
from ausl_dist.corpus.build import BuildJob, build, check_labels
from ausl_dist.corpus.layouts import LAYOUTS, layout
from ausl_dist.corpus.progress import show_progress
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.corpus.sources import collect
from ausl_dist.corpus.unfinished import work_folder
from ausl_dist.faces.models import cache_folder
from ausl_dist.shards.storage import check_bucket
from ausl_dist.train.config_text import load_config


def main() -> int:
    arguments = _parser().parse_args()
    settings = read_settings(arguments.config, arguments.set)
    check_bucket(arguments.out)
    collection = collect(
        arguments.inputs,
        layout(arguments.layout),
        licence=arguments.licence,
        table=arguments.table,
        identity_field=arguments.identity_field,
        video_column=arguments.video_column,
    )
    part, parts = _part(arguments.part)
    job = BuildJob(
        name=arguments.name or arguments.out.rstrip("/").rsplit("/", 1)[-1],
        sources=tuple(collection.sources),
        out=arguments.out,
        work=arguments.work or work_folder(arguments.out, part, parts),
        settings=settings,
        models=arguments.models,
        labels=arguments.labels,
        first_frame=arguments.first_frame,
        part=part,
        parts=parts,
    )
    others = ", ".join(
        f"{count} {suffix or 'without suffix'}"
        for suffix, count in collection.passed_over.most_common(5)
    )
    print(
        f"{len(collection.sources)} sources"
        + (f"; files passed over: {others}" if others else ""),
        flush=True,
    )
    if (labels := check_labels(job)) is not None:
        print(labels, flush=True)
    with show_progress() as report:
        outcome = build(job, workers=arguments.workers, on_progress=report)
    print(outcome.books.table())
    if outcome.statement is None:
        print(
            f"part {part} of {parts} is done; the corpus is complete at {job.out} when the last "
            "part is"
        )
        return 0
    made = outcome.statement
    print(
        f"{'nothing to do: ' if outcome.was_done else ''}{made['clips']} clips, "
        f"{made['seconds']:.1f} s, at {job.out}"
    )
    print(f"look at it:  python -m tools.inspect_corpus {job.out}")
    return 0


def read_settings(config: Path | None, overrides: Sequence[str]) -> CorpusSettings:
    """The settings of a YAML file (default: those of settings.py) with `group.name=value` on
    top.
    """
    try:
        loaded: Any = OmegaConf.merge(
            load_config(config) if config else {}, OmegaConf.from_dotlist(list(overrides))
        )
        values = OmegaConf.to_container(loaded, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"settings cannot be read: {error}") from error
    assert isinstance(values, dict)
    return CorpusSettings.from_mapping({str(key): value for key, value in values.items()})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="folders, files, globs, lists (.txt), shards (.tar), .parquet, s3:// prefixes",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="URL",
        help="where the corpus goes: a folder, or s3://bucket/name",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a YAML file with the settings that differ from ausl_dist/corpus/settings.py",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="GROUP.NAME=VALUE",
        help="one setting, such as clips.seconds=2",
    )
    parser.add_argument(
        "--name", help="name of the corpus in its statement (default: last part of the URL)"
    )
    _options_of_sources(parser)
    _options_of_work(parser)
    return parser


def _options_of_sources(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the sources are")
    group.add_argument(
        "--layout",
        default="plain",
        metavar="NAME|RULE",
        help=f"{', '.join(LAYOUTS)}, or a regular expression with (?P<identity>...)",
    )
    group.add_argument(
        "--licence", help="of all sources (default: what the layout says, or unknown)"
    )
    group.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="CSV with the columns file, identity, licence",
    )
    group.add_argument(
        "--identity-field",
        metavar="NAME",
        help="who is seen: in WebDataset shards class (KEY.cls) or a field of KEY.json, in "
        "Parquet a column",
    )
    group.add_argument(
        "--video-column",
        metavar="NAME",
        help="of Parquet: what holds the videos, their paths or URLs (default: found by itself)",
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="action-unit labels: a CSV file, or a folder with one for each source",
    )
    group.add_argument(
        "--first-frame",
        type=int,
        metavar="N",
        help="what the label tables call the first frame (default 0; 1 in those of OpenFace)",
    )


def _options_of_work(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is done")
    group.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes (default: one for each core)",
    )
    group.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help=f"folder of the models (default: $AUSL_MODELS, or {cache_folder()})",
    )
    group.add_argument(
        "--part",
        metavar="I/N",
        help="build part I (from 0) of N, for instance on N machines of an array job",
    )
    group.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="folder for unfinished work (default: in a local OUT, else in the cache)",
    )


def _part(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    number, slash, total = text.partition("/")
    if not (slash and number.isdigit() and total.isdigit()):
        raise ValueError(f"--part {text}: write I/N, such as 0/16 for the first of 16")
    return int(number), int(total)


if __name__ == "__main__":
    command.run(main)

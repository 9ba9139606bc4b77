"""The corpora of a run, opened and checked before it begins: long enough clips, an order that
can be dealt, a shuffle window that fits into memory.
"""

from collections.abc import Mapping

from ausl_dist.batch import Needs
from ausl_dist.shards.index import Index
from ausl_dist.shards.removals import load_index
from ausl_dist.shards.retry import Retry
from ausl_dist.stream.order import Order
from ausl_dist.stream.settings import DataSettings

MIB = 1 << 20


def open_corpora(
    settings: DataSettings, plan: Needs, digests: Mapping[str, str] | None = None
) -> dict[str, Index]:
    """The indexes of the corpora by name, those with these digests where they are to be had;
    ValueError for clips too short for the plan or labels that nobody named.
    """
    needed = (settings.window_start or 0) + plan.window
    retry = Retry(settings.retry_seconds)
    indexes = {
        name: load_index(source.url, (digests or {}).get(name), retry)
        for name, source in settings.corpora.items()
    }
    for name, index in indexes.items():
        if index.min_frames < needed:
            raise ValueError(
                f"corpus {name} at {index.url} has clips of {index.min_frames} frames, "
                f"the objectives need {needed} in a row; "
                "build it with longer clips, or lower the offsets of the objectives or "
                "data.window_start"
            )
    if plan.action_units and not settings.action_units:
        raise ValueError(
            "an objective needs action units: name the columns, "
            "such as data.action_units=[1,2,4,12]"
        )
    return indexes


def order_of(settings: DataSettings, indexes: Mapping[str, Index], seed: int) -> Order:
    """The order of a run over these corpora."""
    return Order(
        {name: index.chunks["clips"] for name, index in indexes.items()},
        {name: source.quota for name, source in settings.corpora.items()},
        seed=seed,
        lanes=settings.lanes,
        clips_per_lane=settings.clips_per_lane,
        window=settings.shuffle_window,
    )


def check_memory(settings: DataSettings, indexes: Mapping[str, Index], lanes: range) -> None:
    """Refuse a shuffle window that a rank cannot hold in memory; ValueError with the numbers
    that would do.
    """
    needed = 0.0
    for index in indexes.values():
        corpus_bytes = int(index.chunks["bytes"].sum(dtype="u8"))
        clip_bytes, chunk_bytes = (
            corpus_bytes / index.num_clips,
            int(index.chunks["bytes"].max()),
        )
        # its first and last chunk reach over its ends
        window_bytes = settings.shuffle_window * clip_bytes + 2 * chunk_bytes
        needed += min(len(lanes) * window_bytes, corpus_bytes)
    if needed > settings.memory_mib * MIB:
        raise ValueError(
            f"a rank shuffles {len(lanes)} lanes in windows of {settings.shuffle_window} clips, "
            f"which takes about {needed / MIB:.0f} MiB, "
            f"more than data.memory_mib={settings.memory_mib}; raise it, "
            "lower data.shuffle_window, or run more ranks"
        )

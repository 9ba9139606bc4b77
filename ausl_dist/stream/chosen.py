"""What `data.device=auto` and `data.decoder=auto` come to.

    no GPU                            ──▶ cpu, pyav
    GPU, motion measured by loader    ──▶ gpu, pyav
    GPU                               ──▶ truth.py tries NVDEC on the corpora: gpu, dali where it is
                                      right, else pyav

Speed decides nothing here: two starts of a run on equal machines choose the same.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from ausl_dist.batch import Needs
from ausl_dist.stream.cards import Kind
from ausl_dist.stream.settings import DataSettings
from ausl_dist.stream.truth import MAX_KINDS, NVDEC, WAYS, Choice, choose, samples_of, table

TRIED = {"pyav": WAYS["pyav"], NVDEC: WAYS[NVDEC]}


def without_trying(settings: DataSettings, *, gpu: bool) -> DataSettings:
    """The settings with `auto` replaced by what works everywhere; for who has no time to try."""
    return apply(settings, _settled(settings, gpu=gpu))


def decide(
    settings: DataSettings, needs: Needs, *, gpu: bool, ways: Mapping[str, str] = TRIED
) -> Choice:
    """What one machine would choose; decoders are tried only where there is a choice."""
    settled = _settled(settings, gpu=gpu)
    if settings.decoder != "auto":
        return settled
    if settled.device == "cpu":
        return Choice(
            "cpu", "pyav", "frames are made on the CPU, where FFmpeg is faster than DALI"
        )
    if needs.flow_measured:
        return Choice("gpu", "pyav", "motion is measured between frames that FFmpeg decoded")
    try:
        rows = table(samples(settings), ways, seconds=0)
    except (OSError, ValueError) as error:
        return Choice("gpu", "pyav", f"NVDEC could not be tried: {error}")
    return choose(rows, gpu=True)


def agree_on(choices: Sequence[Choice]) -> Choice:
    """One choice for all machines: the first that is not NVDEC, where there is one."""
    return next((choice for choice in choices if choice.decoder != "dali"), choices[0])


def apply(settings: DataSettings, choice: Choice) -> DataSettings:
    """The settings with the choice in place of `auto`."""
    return dataclasses.replace(settings, device=choice.device, decoder=choice.decoder)


def samples(settings: DataSettings) -> dict[Kind, bytes]:
    """A clip of each kind in the corpora of a run."""
    found: dict[Kind, bytes] = {}
    for source in settings.corpora.values():
        found = samples_of(source.url) | found
    return dict(list(found.items())[:MAX_KINDS])


def _settled(settings: DataSettings, *, gpu: bool) -> Choice:
    return Choice(
        ("gpu" if gpu else "cpu") if settings.device == "auto" else settings.device,
        "pyav" if settings.decoder == "auto" else settings.decoder,
        "by the settings",
    )

"""The doctor's table of decoders: for each way to decode, what it makes of the corpus's clips,
and which way the run will take.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from launch.findings import Unchecked

if TYPE_CHECKING:
    from ausl_dist.stream.settings import DataSettings
    from ausl_dist.stream.truth import TruthRow

SPEED_SECONDS = 0.2  # for each measurement


class DecoderChecks:
    """The decoders of this machine on the corpora of a run."""

    def __init__(self, settings: "DataSettings") -> None:
        self.settings = settings

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        from ausl_dist.stream.truth import WAYS

        return [
            *((f"decode: {name}", partial(self.way, name)) for name in WAYS),
            ("decoder", self.choice),
        ]

    @cached_property
    def gpu(self) -> bool:
        import torch

        return torch.cuda.is_available()

    @cached_property
    def rows(self) -> "list[TruthRow]":
        from ausl_dist.stream.chosen import samples
        from ausl_dist.stream.truth import NVDEC, WAYS, table

        ways = {name: way for name, way in WAYS.items() if self.gpu or name != NVDEC}
        return table(samples(self.settings), ways, seconds=SPEED_SECONDS)

    def way(self, name: str) -> str:
        """What one way makes of each kind of clip; a way that nobody takes may fail."""
        from ausl_dist.stream.truth import NVDEC

        if name == NVDEC and not self.gpu:
            raise Unchecked("no GPU here; `doctor --on-node` tries it on the cluster")
        return "; ".join(str(row) for row in self.rows if row.way == name)

    def choice(self) -> str:
        """The way that the run will take; an error where the config insists on a wrong one."""
        from ausl_dist.stream.truth import NVDEC, choose

        best = choose(self.rows, gpu=self.gpu)
        on_gpu = self.settings.device != "cpu" and self.gpu
        dali = NVDEC if on_gpu else "dali on the CPU"
        named = {"pyav": "pyav", "dali": dali}.get(self.settings.decoder)
        for row in self.rows:
            if row.way == named and row.wrong is not None:
                raise ValueError(
                    f"data.decoder={self.settings.decoder}: {row}; "
                    f"type data.decoder={best.decoder}, or auto"
                )
        return f"data.device={best.device} data.decoder={best.decoder}: {best.why}"

"""What a person sees: a live view on a terminal, plain lines in a log, and trouble from any
rank by name.

Rank 0 tells how the run goes; the other ranks speak only of trouble and say who they are.
"""

import sys
from typing import Literal, TextIO

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ausl_dist.observe.state import RankState
from ausl_dist.observe.throughput import culprit
from ausl_dist.observe.wording import duration

Mode = Literal["auto", "live", "plain", "quiet"]
REFRESHES_PER_SECOND = 2.0
TROUBLES_SHOWN = 3


class Console:
    """The view of one rank; `step` is called by the training loop, the live view reads the
    state from its own thread.
    """

    def __init__(
        self, mode: Mode, state: RankState, seconds: float, stream: TextIO | None = None
    ) -> None:
        self._state = state
        self._seconds = seconds
        self._stream = stream or sys.stdout
        self._said_at = -float("inf")
        self._troubles: list[str] = []
        speaks = state.identity.rank == 0 and mode != "quiet"
        live = speaks and (mode == "live" or (mode == "auto" and self._stream.isatty()))
        self._plain = speaks and not live
        self._quiet = mode == "quiet"
        self._live: Live | None = None
        if live:
            terminal = RichConsole(file=self._stream, force_terminal=True, markup=False)
            self._live = Live(
                console=terminal,
                get_renderable=self._view,
                refresh_per_second=REFRESHES_PER_SECOND,
            )
            self._live.start()

    def step(self) -> None:
        """A step has ended: in a log, a line when one is due."""
        if self._plain and (
            self._state.last_at - self._said_at >= self._seconds
            or self._state.steps_done >= self._state.total_steps
        ):
            self._said_at = self._state.last_at
            self._print(plain_line(self._state))

    def tell(self, words: str) -> None:
        """Something that rank 0 tells: a start, a checkpoint."""
        if self._plain:
            self._print(words)

    def trouble(self, words: str) -> None:
        """Something that every rank tells, with its name."""
        identity = self._state.identity
        text = f"rank {identity.rank} ({identity.node}) {words}"
        self._troubles = [*self._troubles, text][-TROUBLES_SHOWN:]
        if self._live is None and not self._quiet:
            self._print(text)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, text: str) -> None:
        try:
            print(text, file=self._stream, flush=True)
        # whoever listened has gone; a run of days must not end because a terminal was closed
        except OSError:
            self._plain, self._quiet = False, True

    def _view(self) -> RenderableType:
        state = self._state
        parts: list[RenderableType] = [
            Text(f"{state.identity.run}  {headline(state)}", style="bold"),
            # a bar alone ends no line
            Padding(
                ProgressBar(total=max(state.total_steps, 1), completed=state.steps_done), 0
            ),
            numbers(state),
        ]
        parts += [Text(trouble, style="red") for trouble in self._troubles]
        return Group(*parts)


def plain_line(state: RankState) -> str:
    """The state of the run in one line of a log."""
    last, window = state.last, state.window
    if last is None:
        return headline(state)
    rate = window.clips_per_second * state.identity.world_size
    losses = _objective_losses(state)
    detail = (
        f" ({', '.join(f'{name} {value:.4f}' for name, value in losses.items())})"
        if len(losses) > 1
        else ""
    )
    return (
        f"{headline(state)} | loss {last.loss:.4f}{detail} | {rate:.1f} clips/s | waiting "
        f"for data {window.share('data'):.1%}"
    )


def headline(state: RankState) -> str:
    """How far the run is and how long it will take."""
    left = state.left.seconds
    ending = f"{state.phase[0]}…" if left is None else f"{duration(left)} left"
    return f"step {state.steps_done}/{state.total_steps} | {ending}"


def numbers(state: RankState) -> Table:
    """Rates, shares and losses as two columns of a table without lines."""
    table = Table.grid(padding=(0, 2))
    last, window = state.last, state.window
    if last is None:
        return table
    ranks = state.identity.world_size
    stage = culprit(window.blocked)
    where = f" (for {stage})" if stage and window.share("data") > 0.01 else ""
    table.add_row(
        "loss", f"{last.loss:.4f}", "rate", f"{window.clips_per_second * ranks:.1f} clips/s"
    )
    table.add_row(
        "gradient norm",
        f"{last.gradient_norm:.3g}",
        "",
        f"{window.frames_per_second * ranks:.0f} frames/s",
    )
    table.add_row(
        "learning rate",
        f"{last.learning_rate:.3g}",
        "waiting for data",
        f"{window.share('data'):.1%}{where}",
    )
    table.add_row("skipped steps", str(state.skipped), "goodput", f"{state.goodput:.0%}")
    for name, value in _objective_losses(state).items():
        table.add_row(name, f"{value:.4f}")
    return table


def _objective_losses(state: RankState) -> dict[str, float]:
    return {
        name.removesuffix("/loss"): value
        for name, value in dict(state.logs).items()
        if name.endswith("/loss")
    }

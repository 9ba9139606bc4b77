"""One dial, the clips of a global batch, and the number of ranks: all else about a batch
follows.

    batch.clips ─┐                ┌─▶ data.lanes x data.clips_per_lane: the order, and a rank's part
    cluster ─────┴─▶ plan_batch ──┼─▶ engine.gradient_accumulation: pieces of a rank's part
                                  └─▶ optimizer.learning_rate, for the batch that comes of it

A batch that the ranks cannot share evenly grows to the next one that they can. Lanes are as
many that other numbers of ranks can go on with the same batches, as long as memory allows: each
lane shuffles in a window of its own.

The learning rate grows with the batch: in proportion under SGD (Goyal et al. 2017), with its
root under Adam (Malladi et al. 2022).
"""

from dataclasses import dataclass

from ausl_dist.settings import SettingsError

USUAL_LANES = 16  # of few ranks together; then 1, 2, 4, 8 or 16 of them see the same batches


@dataclass(frozen=True)
class BatchSettings:
    """The `batch` group of a config."""

    clips: int = 32  # of a global batch
    rate_clips: int = 32  # of the batch that optimizer.learning_rate is meant for
    clips_at_once: int = 32  # of a rank; what is more is run in pieces

    def __post_init__(self) -> None:
        for name in ("clips", "rate_clips", "clips_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is cut."""

    ranks: int
    lanes: int
    clips_per_lane: int
    pieces: int  # of a rank's part, one after the other
    rate_factor: float

    @property
    def clips(self) -> int:
        return self.lanes * self.clips_per_lane

    @property
    def clips_a_rank(self) -> int:
        return self.clips // self.ranks


def plan_batch(batch: BatchSettings, ranks: int, optimizer: str) -> BatchPlan:
    """Cut the batch for so many ranks, and scale the learning rate of `optimizer` (sgd, or a
    kind of Adam) to the batch that comes of it.
    """
    share = -(-batch.clips // ranks)
    lanes_a_rank = max(
        each for each in divisors(share) if each == 1 or each * ranks <= USUAL_LANES
    )
    growth = share * ranks / batch.rate_clips
    return BatchPlan(
        ranks=ranks,
        lanes=ranks * lanes_a_rank,
        clips_per_lane=share // lanes_a_rank,
        pieces=min(each for each in divisors(share) if share // each <= batch.clips_at_once),
        rate_factor=growth if optimizer == "sgd" else growth**0.5,
    )


def check_ranks(lanes: int, clips_per_lane: int, pieces: int, ranks: int) -> None:
    """Raise SettingsError where `ranks` cannot share the batches of a run evenly."""
    if lanes % ranks:
        raise SettingsError(
            f"{lanes} lanes cannot be dealt to {ranks} ranks: use one of "
            f"{', '.join(map(str, divisors(lanes)))} ranks; or, for a new run, leave data.lanes "
            "and data.clips_per_lane out and say batch.clips, from which they follow"
        )
    share = lanes * clips_per_lane // ranks
    if share % pieces:
        raise SettingsError(
            f"engine.gradient_accumulation={pieces} does not divide the {share} clips of each of "
            f"{ranks} ranks; use another number of ranks or, for a new run, leave it out: "
            "it follows from batch.clips_at_once"
        )


def describe(lanes: int, clips_per_lane: int, pieces: int, ranks: int, rate: float) -> str:
    """One line for people: what a step is, and where the run may go on."""
    share = lanes * clips_per_lane // ranks
    others = ", ".join(str(each) for each in divisors(lanes))
    in_pieces = f" in {pieces} pieces" if pieces > 1 else ""
    return (
        f"{lanes * clips_per_lane} clips a step, {share} on each of {ranks} ranks{in_pieces}; "
        f"learning rate {rate:.4g}; {lanes} lanes: may go on with {others} ranks"
    )


def divisors(number: int) -> list[int]:
    """All whole divisors, the smallest first."""
    small = [each for each in range(1, int(number**0.5) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)})

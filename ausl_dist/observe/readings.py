"""Where a metric finds its value: readers of a rank's state, for the rows of metrics.py.

    of_last_step("loss") ──▶ reader; reader(state) ──▶ a number, numbers by label, or None

A reader gives None, or no label, where there is nothing to tell.
"""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping

import ausl_dist
from ausl_dist.observe.state import RankState
from ausl_dist.stream.ledger import MIN_CLIPS_JUDGED

Reading = (
    float
    | Mapping[str, float]
    | Mapping[tuple[str, str], float]
    | Mapping[tuple[str, str, str], float]
    | None
)
Reader = Callable[[RankState], Reading]

# Logs named OBJECTIVE/what that have a metric of their own; all others are exported by
# ausl_objective_value.
OBJECTIVE_LOGS = {
    "loss": "Loss of one objective, before its weight.",
    "weight": "Weight of an objective in the summed loss.",
    "gradient_norm": "Norm of one objective's gradient on the backbone.",
    "feature_std": "Standard deviation of features over a batch, mean over dimensions; "
    "near 0 when the representation collapses.",
    "effective_rank": "Effective rank of the features (RankMe); near 1 when the representation "
    "collapses.",
    "uniformity": "Uniformity of the features on the sphere (Wang and Isola 2020); "
    "near 0 when the representation collapses.",
    "teacher_agreement": "Cosine between features of student and teacher.",
    "bank_age_steps": "Mean age of the entries in the bank of embeddings.",
    "collapsed": "1 while training's own health check calls this objective collapsed, else 0.",
}


def of_last_step(name: str) -> Reader:
    return lambda state: None if state.last is None else getattr(state.last, name)


def of_logs(name: str) -> Reader:
    return lambda state: state.logs.get(name)


def of_each_objective(what: str) -> Reader:
    return lambda state: {
        objective: value
        for (objective, name), value in _objective_logs(state).items()
        if name == what
    }


def other_logs(state: RankState) -> Reading:
    return {
        key: value
        for key, value in _objective_logs(state).items()
        if key[1] not in OBJECTIVE_LOGS
    }


def _objective_logs(state: RankState) -> dict[tuple[str, str], float]:
    split = ((*name.partition("/"), value) for name, value in dict(state.logs).items())
    return {(objective, name): value for objective, slash, name, value in split if slash}


def of_loader(name: str) -> Reader:
    return lambda state: None if state.last is None else state.last.loader_counts.get(name)


def corrupt_clips(state: RankState) -> Reading:
    return {} if state.last is None else state.last.counts["corrupt"]


def retried_fetches(state: RankState) -> Reading:
    return {} if state.last is None else state.last.counts["retried"]


def queues(state: RankState) -> Reading:
    return None if state.last is None else dict(state.last.loader_queues)


def budget_used(state: RankState) -> Reading:
    """As the ledger judges: a share of the clips seen, or of MIN_CLIPS_JUDGED where they are
    fewer.
    """
    if state.last is None:
        return None
    corrupt = state.last.counts["corrupt"]
    judged = max(
        state.last.loader_counts.get("clips", 0) + sum(corrupt.values()), MIN_CLIPS_JUDGED
    )
    return {
        reason: corrupt.get(reason, 0) / (budget * judged)
        for reason, budget in state.clip_budgets.items()
        if budget > 0
    }


def blocked_seconds(state: RankState) -> Reading:
    return None if state.last is None else dict(state.last.loader_blocked)


def phase_age(state: RankState) -> Reading:
    phase, since = state.phase
    return {phase: state.clock() - since}


def build(state: RankState) -> Reading:
    return {
        (
            ausl_dist.__version__,
            platform.python_version(),
            importlib.metadata.version("torch"),
        ): 1.0
    }


def of_usage(name: str) -> Reader:
    return lambda state: getattr(state.usage, name)


def of_checkpoint(name: str) -> Reader:
    return lambda state: state.checkpoint.get(name)

"""The training loop.

Step k is a pure function of the state after step k - 1 and of k itself: data, learning rate and
random numbers are all computed from k. So a run that is killed and started again from a
checkpoint repeats, bit for bit, what it would have done.
"""

from ausl_dist.batch import Batch
from ausl_dist.train.engine import Outcome
from ausl_dist.train.exits import Exit
from ausl_dist.train.run import Run
from ausl_dist.train.stability import Trouble
from ausl_dist.train.step_log import note_bad_batch, step_logs, step_record


def train(run: Run) -> Exit:
    """Train from the run's next step to its last, or until some rank is asked to stop; then
    everything is saved.
    """
    while True:
        ended = _train_until_trouble(run)
        if isinstance(ended, Exit):
            return ended
        run.rewind(ended)


def _train_until_trouble(run: Run) -> Exit | Trouble:
    for step in run.steps_to_do():
        run.begin_step(step)
        batch = run.next_batch()
        if run.leaves_out(step):
            run.end_step()
            continue
        values = run.values_at(step)
        outcome = run.train_step(batch, values)
        trouble = _judge(run, batch, outcome)
        logs = step_logs(run, batch, outcome, values)
        # a rank that was asked to stop still is when the steps have been done again
        stop = outcome.stop and trouble is None
        run.save_if_due(step + 1, at_once=stop)
        run.observer.step(step_record(run, batch, outcome, logs, values.learning_rate))
        run.end_step()
        if trouble is not None:
            return trouble
        if stop:
            return _stopped(run, step + 1)
    run.save_the_end()
    return Exit.DONE


def _judge(run: Run, batch: Batch, outcome: Outcome) -> Trouble | None:
    """Whether training has gone wrong with this step; the clips of a step that looks like it
    are kept.
    """
    stability = run.state.stability
    trouble = stability.judge(
        batch.step, outcome.loss, outcome.bad, spikes_count=run.may_rewind
    )
    if stability.suspicious:
        note_bad_batch(run, batch, outcome)
    return trouble


def _stopped(run: Run, step: int) -> Exit:
    run.observer.event("signal", signal=run.stop.signal_name or "on another rank")
    run.finish_saving()
    return Exit.DONE if step == run.settings.steps else Exit.PREEMPTED

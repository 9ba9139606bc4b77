"""The GPU's waits between steps must be found from its own queue, and only those."""

from ausl_dist.observe.starvation import StarvationClock


class Gpu:
    """A queue of work with a clock: an event passes when the work before it is done."""

    def __init__(self) -> None:
        self.host = self.busy_until = 0.0

    def work(self, milliseconds: float) -> None:
        self.busy_until = max(self.busy_until, self.host) + milliseconds

    def record(self) -> "Event":
        return Event(self, max(self.busy_until, self.host))


class Event:
    def __init__(self, gpu: Gpu, passes_at: float) -> None:
        self.gpu, self.passes_at = gpu, passes_at

    def query(self) -> bool:
        return self.gpu.host >= self.passes_at

    def elapsed_time(self, other: "Event") -> float:
        return other.passes_at - self.passes_at


def run_steps(data: float, launch: float, compute: float) -> float | None:
    """Twenty steps: the host waits for data, takes its time to launch the work, the GPU
    computes.
    """
    gpu = Gpu()
    clock = StarvationClock(gpu.record)
    for _ in range(20):
        clock.enter("data")
        gpu.host += data
        clock.enter("step")
        gpu.work(compute)
        gpu.host += launch
        clock.enter("save")
    gpu.host = gpu.busy_until
    clock.enter("data")
    return clock.share


def test_waiting_for_data_with_an_idle_gpu_is_starvation() -> None:
    share = run_steps(data=30, launch=100, compute=70)
    assert share is not None
    assert abs(share - 30 / 130) < 0.05


def test_waiting_while_the_gpu_still_works_is_not() -> None:
    assert run_steps(data=30, launch=10, compute=100) == 0


def test_before_two_steps_nothing_is_said() -> None:
    assert StarvationClock(Gpu().record).share is None

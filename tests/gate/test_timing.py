"""Rounds are interleaved and whole, and kept whatever a contender or the clock does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pytest_sparsity.speed.gate import timing, worker
from pytest_sparsity.speed.gate.processes import WorkerError
from pytest_sparsity.speed.gate.timing import Rounds, calibrate, measure
from pytest_sparsity.speed.gate.worker import Calls, ClockError


class Fake:
    """Takes a known time per call, and notes when it is asked."""

    def __init__(
        self, seconds: float, log: list[tuple[str, int]] | None = None, name: str = ""
    ) -> None:
        self.seconds = seconds
        self.log = log if log is not None else []
        self.name = name

    def sample(self, iterations: int) -> float:
        self.log.append((self.name, iterations))
        return self.seconds


class Raising(Fake):
    """Raises in the sample with this number."""

    def __init__(self, number: int, error: BaseException) -> None:
        super().__init__(1.0)
        self.number, self.error = number, error

    def sample(self, iterations: int) -> float:
        seconds = super().sample(iterations)
        if len(self.log) == self.number + 3:  # three to calibrate
            raise self.error
        return seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[float]], None]:
    """Replaces the clock of samples."""

    def replace(readings: Iterator[float]) -> None:
        monkeypatch.setattr(worker, "clock", lambda: next(readings))

    return replace


@pytest.mark.parametrize("seconds", [1e-7, 1e-5, 1.9e-3, 2e-3, 1.0])
def test_samples_last_two_milliseconds(seconds: float) -> None:
    iterations = calibrate(Fake(seconds))
    assert iterations * seconds >= timing.LEAST_SAMPLE
    assert iterations * seconds <= max(1.2 * timing.LEAST_SAMPLE, 2 * seconds)


def test_rounds_are_interleaved_and_shuffled() -> None:
    log: list[tuple[str, int]] = []
    contenders = {name: Fake(1.0, log, name) for name in "abc"}
    done = measure(contenders, 20, seed=1)
    assert {name: len(done.seconds[name]) for name in "abc"} == {"a": 20, "b": 20, "c": 20}
    asked = [name for name, _ in log[-60:]]
    rounds = [tuple(asked[i : i + 3]) for i in range(0, 60, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 3
    assert done.count == 20
    assert not done.broken
    assert not done.doubt


def test_contenders_about_as_fast_take_equal_samples() -> None:
    done = measure({"a": Fake(1e-4), "b": Fake(1.3e-4), "c": Fake(1e-4)}, 10, seed=0)
    assert len(set(done.iterations.values())) == 1
    done = measure({"a": Fake(1e-4), "b": Fake(1e-2)}, 10, seed=0)
    assert done.iterations["a"] > done.iterations["b"] == 1


@pytest.mark.parametrize("error", [ValueError("lost"), WorkerError("ValueError: lost", "trace")])
def test_a_contender_that_raises_in_round_17(error: Exception) -> None:
    done = measure({"good": Fake(1.0), "bad": Raising(17, error)}, 30, seed=0)
    assert done.count == 16
    assert done.culprit == "bad"
    assert done.broken == "ValueError: lost in round 17"
    assert "ValueError" in done.details or done.details == "trace"
    assert {len(seconds) for seconds in done.seconds.values()} == {16}


def test_interruption_keeps_the_rounds() -> None:
    done = Rounds()
    with pytest.raises(KeyboardInterrupt):
        measure({"a": Fake(1.0), "b": Raising(9, KeyboardInterrupt())}, 30, seed=0, into=done)
    assert done.count == 8


def test_a_clock_that_goes_backwards_once(clock: Callable[[Iterator[float]], None]) -> None:
    def readings() -> Iterator[float]:
        now, count = 100.0, 0
        while True:
            count += 1
            now += 1.0 if count != 40 else -50.0  # within one sample of some round
            yield now

    clock(readings())
    done = measure({"a": Calls([lambda: None])}, 30, seed=0)
    assert done.spoiled == 1
    assert done.count == 29
    assert not done.doubt
    assert min(done.seconds["a"]) > 0


def test_a_clock_that_goes_backwards_all_the_time(
    clock: Callable[[Iterator[float]], None],
) -> None:
    clock(iter(range(10**6, 0, -1)))
    with pytest.raises(ClockError, match="the clock moved by -1 s"):
        Calls([lambda: None]).sample(5)
    done = measure({"a": Calls([lambda: None])}, 30, seed=0)
    assert done.doubt == "the clock went backwards in 30 rounds"
    assert not done.broken  # it is no fault of the contender
    assert done.count == 0


def test_calls_rotate_and_flush() -> None:
    seen: list[str] = []
    calls = [lambda n=name: seen.append(n) for name in "abc"]
    Calls(calls).sample(4)
    assert "".join(seen) == "abcab"  # the first one is the rehearsal
    seen.clear()
    Calls(calls, flush=lambda: seen.append("-")).sample(2)
    assert "".join(seen) == "a-b-c"


def test_nothing_to_time() -> None:
    with pytest.raises(ValueError, match="0 contenders, 5 rounds"):
        measure({}, 5, seed=0)


def test_allocations_are_counted() -> None:
    import torch

    x = torch.ones(1000)

    def call() -> torch.Tensor:
        first = x + 1  # 4000 bytes, and gone
        del first
        view = x[:10]  # none
        return (x * 2)[: len(view)] * 3  # 4000 and 40

    assert worker.allocations(call, [x]) == (3, 8040, 4040)

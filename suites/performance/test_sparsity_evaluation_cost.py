"""What an evaluation costs: dense scoring against bare transformers, sparse against dense."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import pytest
import torch

from pytest_sparsity import LanguageModel
from pytest_sparsity.fixtures import Configuration, Settings, SweepSession
from pytest_sparsity.results import Outcome
from pytest_sparsity.speed import (
    Window,
    can_measure_memory,
    cores,
    dense_states,
    interleave,
    ratio,
    score_documents,
    scoring_footprint,
    weight_bytes,
)

Seconds = dict[str, list[float]]
Timed = Callable[[Mapping[str, Callable[[], object]], int], Seconds]
ReportCost = Callable[[str, str, Mapping[str, Any]], None]

SPEED = 0.95  # of a bare forward pass's tokens per second, at least
MEMORY = 3.0  # times the weights, at most
WINDOWS = 8
BATCHES = (1, 4)
ROUNDS = (10, 20)  # the second number is of fresh rounds, when the first ones do not decide
MEANINGFUL = 64 << 20  # bytes of weights below which Python's own time and memory dominate

pytestmark = pytest.mark.usefixtures("machine_to_oneself")


@pytest.fixture(autouse=True)
def _all_cores() -> Iterator[None]:
    """Give torch every core, whatever OMP_NUM_THREADS says: the bare model gets its best."""
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    yield
    torch.set_num_threads(before)


@pytest.fixture
def windows(
    dense_model: LanguageModel, sparsity_session: SweepSession, sparsity_settings: Settings
) -> list[Window]:
    """The first documents of the first evaluation corpus."""
    return sparsity_session.texts.windows(dense_model.name, sparsity_settings.corpora[0])[:WINDOWS]


@pytest.fixture
def timed(
    dense_model: LanguageModel, sparsity_session: SweepSession, sparsity_settings: Settings
) -> Timed:
    """Times contenders in interleaved rounds, and shows how far it is."""

    def run(contenders: Mapping[str, Callable[[], object]], rounds: int) -> Seconds:
        total = len(contenders) * rounds
        name = f"time {dense_model.name} ({rounds} rounds)"
        with sparsity_session.progress(name, total, "run") as task:
            return interleave(contenders, rounds, sparsity_settings.seed + rounds, task.advance)

    return run


def test_dense_scoring_keeps_up(
    dense_model: LanguageModel, windows: list[Window], timed: Timed, report_cost: ReportCost
) -> None:
    """Scoring is as fast as a bare transformers forward pass over the same windows.

    The bare one makes all logits on all of torch's threads, in the best of several batch
    sizes, and does nothing with them.
    """
    batches = {f"batch {n}": _batches(windows, n) for n in BATCHES}
    bare = {name: partial(_forward, dense_model, batch) for name, batch in batches.items()}
    contenders: Mapping[str, Callable[[], object]] = {
        "ours": lambda: score_documents(dense_model, windows),
        **bare,
    }
    _check_same(dense_model, windows)
    for rounds in ROUNDS:
        seconds = timed(contenders, rounds)
        best = min(bare, key=lambda name: median(seconds[name]))
        speed = ratio(seconds[best], seconds["ours"])
        outcome = Outcome.at_least(SPEED, speed)
        if outcome is not Outcome.INCONCLUSIVE:
            break
    _check_same(dense_model, windows)

    tokens = sum(len(window.tokens) for window in windows)
    ours, theirs = tokens / median(seconds["ours"]), tokens / median(seconds[best])
    line = (
        f"dense scoring {ours:,.0f} tokens/s, bare transformers {theirs:,.0f} ({best}): "
        f"{speed:.2f} times its speed, at least {SPEED} asked"
    )
    numbers = {
        "tokens_per_second": ours,
        "bare_tokens_per_second": theirs,
        "bare_batch": best,
        "speed": speed.estimate,
        "speed_low": speed.low,
        "speed_high": speed.high,
        "rounds": speed.n,
        "tokens": tokens,
        "seconds": seconds,
    }
    report_cost("dense scoring", line, numbers)
    _conclude(dense_model, outcome, line)


def test_cost_of_sparse_scoring(
    dense_model: LanguageModel,
    sparsity_session: SweepSession,
    windows: list[Window],
    timed: Timed,
    report_cost: ReportCost,
) -> None:
    """Where the time of a sparse perplexity cell goes; has no limit.

    Neither counting nor the divergence may change what the scores are.
    """
    twin, attached = sparsity_session.attached(Configuration(dense_model.name, "teal", 0.5))
    reference = dense_states(dense_model, windows)

    def sparse(divergence: bool, counting: bool) -> list[dict[str, Any]]:
        attached.counting = counting
        try:
            return score_documents(twin, windows, reference if divergence else None)
        finally:
            attached.counting = False

    contenders = {
        "dense": lambda: score_documents(dense_model, windows),
        "sparse": lambda: sparse(False, False),
        "sparse, divergence": lambda: sparse(True, False),
        "sparse, divergence, counting": lambda: sparse(True, True),
        "dense hidden states": lambda: dense_states(dense_model, windows),
    }
    assert _likelihoods(sparse(False, False)) == _likelihoods(sparse(True, True))
    seconds = timed(contenders, ROUNDS[0])
    assert _likelihoods(sparse(False, False)) == _likelihoods(sparse(True, True))

    dense, plain, divergence, whole, states = seconds.values()
    parts = {
        "sparsifying": ratio(_minus(plain, dense), dense),
        "divergence": ratio(_minus(divergence, plain), dense),
        "counting": ratio(_minus(whole, divergence), dense),
    }
    total = ratio(whole, dense)
    once = ratio(states, dense)
    line = (
        f"sparse scoring takes {total:.2f} times as long as dense: 1"
        + "".join(f" {part.estimate:+.2f} {name}" for name, part in parts.items())
        + f"; the dense hidden states, once per corpus, {once.estimate:.2f}"
    )
    numbers: dict[str, Any] = {
        "cost": total.estimate,
        "cost_low": total.low,
        "cost_high": total.high,
    }
    for name, part in {**parts, "dense hidden states": once}.items():
        numbers[name] = part.estimate
        numbers[f"{name} interval"] = f"[{part.low:.3f}, {part.high:.3f}]"
    report_cost("sparse scoring", line, {**numbers, "rounds": total.n, "seconds": seconds})


def test_peak_memory(
    dense_model: LanguageModel,
    sparsity_session: SweepSession,
    windows: list[Window],
    report_cost: ReportCost,
) -> None:
    """Loading a model and scoring it, dense and sparse, takes little more than its weights."""
    if dense_model.device.type != "cpu" or not can_measure_memory():
        pytest.skip("resident memory is measured on the CPU, under Linux")
    if dense_model.source in sparsity_session.models.own:
        pytest.skip("memory is that of a fresh process, and code of others makes the model here")
    plan = sparsity_session.plans.plan(Configuration(dense_model.name, "teal", 0.5))
    footprint = scoring_footprint(dense_model, plan, windows, sparsity_session.cache)
    weights = weight_bytes(dense_model)
    loading = (footprint.loaded - footprint.before) / weights
    peak = (footprint.peak - footprint.before) / weights
    line = (
        f"peak memory {peak:.2f} times the weights ({weights / 2**20:,.0f} MiB), "
        f"{loading:.2f} when loaded; at most {MEMORY} allowed"
    )
    numbers = {
        "peak": peak,
        "loading": loading,
        "weights_bytes": weights,
        "before_bytes": footprint.before,
        "peak_bytes": footprint.peak,
        "cores": cores(),
    }
    report_cost("memory", line, numbers)
    _conclude(dense_model, Outcome.PASS if peak <= MEMORY else Outcome.FAIL, line)


def _batches(windows: Sequence[Window], size: int) -> list[torch.Tensor]:
    tokens = [window.tokens for window in windows]
    return [torch.stack(tokens[start : start + size]) for start in range(0, len(tokens), size)]


def _forward(model: LanguageModel, batches: Sequence[torch.Tensor]) -> None:
    with torch.inference_mode():
        for tokens in batches:
            output = model.model(input_ids=tokens.to(model.device), use_cache=False)
            output.logits[-1, -1, -1].item()  # waits for an accelerator


def _check_same(model: LanguageModel, windows: Sequence[Window]) -> None:
    """What is timed computes the same: log-likelihoods from bare logits are our scores."""
    few = windows[: max(BATCHES)]
    tokens = torch.stack([window.tokens for window in few])
    with torch.inference_mode():
        logits = model.model(input_ids=tokens.to(model.device), use_cache=False).logits
        chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, tokens[:, 1:, None])
    ours = [sum(scores) for scores in _likelihoods(score_documents(model, few))]
    assert ours == pytest.approx(chosen.sum((1, 2)).tolist(), rel=0.01)


def _likelihoods(scores: Sequence[dict[str, Any]]) -> list[list[float]]:
    return [score["log_likelihoods"] for score in scores]


def _minus(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _conclude(model: LanguageModel, outcome: Outcome, line: str) -> None:
    if weight_bytes(model) < MEANINGFUL:
        pytest.skip(f"inconclusive, {model.name} is too small to tell: {line}")
    if outcome is Outcome.INCONCLUSIVE:
        pytest.skip(f"inconclusive: {line}")
    assert outcome is Outcome.PASS, line

"""Tokens per second of greedy decoding with sparse kernels, against plain transformers.

Alone, in about three minutes, best on a machine that does nothing else:

    pytest --sparsity-sweep --sparsity-suite=performance -k decoding
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any, TypeVar

import pytest
import torch

from pytest_sparsity import LanguageModel, Plan, Threshold, sparsify
from pytest_sparsity.fixtures import Configuration, Settings, SweepSession
from pytest_sparsity.results import Outcome
from pytest_sparsity.speed import (
    Flip,
    cores,
    first_flip,
    forks,
    greedy_path,
    interleave,
    logit_error,
    ratio,
    site_inputs,
    step_logits,
    weight_bytes,
    worst_layer,
)

T = TypeVar("T")
Report = Callable[[str, str, Mapping[str, Any]], None]

LEVEL = 0.5
SPEED = 1.5  # times plain transformers, at least, on one thread
NO_WORSE = 1.25  # times the masked model's error of the logits, at most
ROUNDING = 1e-5  # relative difference of float32 inputs that earlier layers' rounding may make
CHECKED_STEPS = 4  # of every prompt, at which all layers are compared with their definition
NEW_TOKENS = 48
ROUNDS = (8, 16)  # the second number is of fresh rounds, when the first ones do not decide
MEANINGFUL = 64 << 20  # bytes of weights below which Python's own time dominates

pytestmark = pytest.mark.usefixtures("machine_to_oneself")


@pytest.fixture
def plan(dense_model: LanguageModel, sparsity_session: SweepSession) -> Plan:
    """TEAL at the level under test."""
    return sparsity_session.plans.plan(Configuration(dense_model.name, "teal", LEVEL))


@pytest.fixture
def prompts(
    dense_model: LanguageModel, sparsity_session: SweepSession, sparsity_settings: Settings
) -> list[torch.Tensor]:
    """Beginnings of documents, [1, 32] each."""
    windows = sparsity_session.texts.prompts(dense_model.name)
    count = 2 if sparsity_settings.profile == "smoke" else 4
    return [window.tokens[None].to(dense_model.device) for window in windows[:count]]


@pytest.mark.parametrize("threads", [1, 2])
def test_decoding_speed(
    threads: int,
    dense_model: LanguageModel,
    plan: Plan,
    prompts: list[torch.Tensor],
    sparsity_session: SweepSession,
    sparsity_settings: Settings,
    report_cost: Report,
) -> None:
    """Sparse decoding is faster than the unmodified model in ``transformers.generate``.

    Both sides run the same ``generate``: greedy, with a cache, in the model's dtype; they
    differ in the planned linear layers alone.  The head, attention, norms and the loop in
    Python are the same code in both.  The limit is for one thread: kernels have one.
    """
    if threads > cores():
        pytest.skip(f"this process may use {cores()} core(s)")
    twin = dense_model.twin()
    prompt = prompts[0]
    smoke = sparsity_settings.profile == "smoke"
    with sparsify(twin, plan, kernels="auto") as attached, _threads(threads):
        sparse_sites = len(attached.kernels)
        contenders = {
            "transformers": lambda: _generate(dense_model, prompt),
            "sparse": lambda: _generate(twin, prompt),
        }
        text = contenders["sparse"]()
        for rounds in ROUNDS[:1] if smoke else ROUNDS:
            name = f"decode {dense_model.name} ({threads} threads)"
            with sparsity_session.progress(name, 2 * rounds, "run") as task:
                seconds = interleave(
                    contenders, rounds, sparsity_settings.seed + rounds, task.advance
                )
            speed = ratio(seconds["transformers"], seconds["sparse"])
            outcome = Outcome.at_least(SPEED, speed)
            if outcome is not Outcome.INCONCLUSIVE:
                break
        assert torch.equal(contenders["sparse"](), text)
        kernels = sorted(set(attached.kernels.values())) or ["no kernel"]

    ours, theirs = (NEW_TOKENS / median(seconds[n]) for n in ("sparse", "transformers"))
    line = (
        f"decoding with {threads} thread(s) {ours:.1f} tokens/s with teal {LEVEL} and "
        f"{', '.join(kernels)} in {sparse_sites} of {len(plan.selectors)} layers, plain "
        f"transformers {theirs:.1f} in {_dtype(dense_model)}: {speed.estimate:.2f} "
        f"[{speed.low:.2f}, {speed.high:.2f}] times its speed"
        + (f", at least {SPEED} asked" if threads == 1 else "")
        + f"; {rounds} rounds of {NEW_TOKENS} tokens after a prompt of {prompt.shape[1]}, "
        "dense head and prefill inside"
    )
    numbers = {
        "tokens_per_second": ours,
        "transformers_tokens_per_second": theirs,
        "speed": speed.estimate,
        "speed_low": speed.low,
        "speed_high": speed.high,
        "sparse_sites": sparse_sites,
        "kernels": ", ".join(kernels),
        "rounds": speed.n,
        "seconds": seconds,
    }
    report_cost(f"decoding, {threads} thread(s)", line, numbers)
    if threads > 1 or smoke:
        return
    if weight_bytes(dense_model) < MEANINGFUL:
        pytest.skip(f"inconclusive, {dense_model.name} is too small to tell: {line}")
    if outcome is Outcome.INCONCLUSIVE:
        pytest.skip(f"inconclusive: {line}")
    assert outcome is Outcome.PASS, line


def test_decoded_text_is_that_of_masked_layers(
    dense_model: LanguageModel,
    plan: Plan,
    prompts: list[torch.Tensor],
    report_cost: Report,
) -> None:
    """Kernels change no choice of a token that rounding does not change as well.

    In float32 the greedy text is that of masked inputs and dense layers, unless, on the way,
    an activation is so near its threshold that rounding decides; then the inputs of the first
    layer whose channels differ are shown to be equal up to rounding.  In the model's own dtype
    that happens at every step: there, every layer's output is checked against the float64
    definition on the layer's own input, and where the likeliest tokens differ along one path,
    their logits must be closer than rounding moves those of the masked model.
    """
    exact = dense_model.twin(torch.float32)
    rounded = _in_dtype(plan, dense_model.dtype)

    with _threads(1):
        same, flips = _compare_texts(exact, rounded, prompts)
        paths = _each(dense_model, rounded, "none", lambda model: _paths(model, prompts))
        steps = list(zip(prompts, paths, strict=True))

        def logits(model: LanguageModel) -> torch.Tensor:
            return torch.cat([step_logits(model, prompt, path) for prompt, path in steps])

        masked = _each(dense_model, rounded, "none", logits)
        kernels = _each(dense_model, rounded, "auto", logits)
        reference = _each(exact, rounded, "none", logits)
        few = [(prompt, path[:CHECKED_STEPS]) for prompt, path in steps]
        used, site = _each(
            dense_model,
            rounded,
            "auto",
            lambda model: max(worst_layer(model, rounded, *each) for each in few),
        )
    found = forks(masked, kernels, reference)
    widest = max((fork.gap / fork.rounding for fork in found), default=0.0)
    error = float(logit_error(kernels, reference).mean() / logit_error(masked, reference).mean())
    line = (
        f"greedy text in float32 is that of masked layers for {same} of {len(prompts)} prompts "
        f"({NEW_TOKENS} tokens); "
        + "".join(
            f"one parts in {flip.site} at an activation on its threshold (inputs differ by "
            f"{flip.difference:.1e}); "
            for flip in flips
        )
        + f"in {_dtype(dense_model)} every layer is within {used:.2f} of its bound ({site}), "
        f"{len(found)} of {len(masked)} choices differ, by at most {widest:.2f} of what rounding "
        f"explains, and the logits' error is {error:.2f} times the masked model's"
    )
    numbers = {
        "float32 same": same,
        "choices": len(masked),
        "differ": len(found),
        "bound used": used,
        "error": error,
    }
    report_cost("decoded text", line, {**numbers, "forks": [vars(fork) for fork in found]})
    assert all(flip.difference <= ROUNDING for flip in flips), line
    assert used <= 1, line
    assert all(fork.tie for fork in found), [fork for fork in found if not fork.tie]
    assert error <= NO_WORSE, line


def _compare_texts(
    model: LanguageModel, plan: Plan, prompts: Sequence[torch.Tensor]
) -> tuple[int, list[Flip]]:
    """How many texts are the same with and without kernels, and why the others are not."""
    masked = _each(model, plan, "none", lambda model: _paths(model, prompts))
    found = _each(model, plan, "auto", lambda model: _paths(model, prompts))
    flips = []
    for prompt, path, other in zip(prompts, masked, found, strict=True):
        if path == other:
            continue
        fork = next(step for step, (a, b) in enumerate(zip(path, other, strict=True)) if a != b)
        before, after = (
            _inputs(model, plan, kernels, prompt, path[: fork + 1]) for kernels in ("none", "auto")
        )
        flip = first_flip(before, after, plan)
        assert flip is not None, "texts part although every layer keeps the same channels"
        flips.append(flip)
    return len(prompts) - len(flips), flips


def _inputs(
    model: LanguageModel, plan: Plan, kernels: str, prompt: torch.Tensor, path: Sequence[int]
) -> list[tuple[str, torch.Tensor]]:
    twin = model.twin()
    with site_inputs(twin) as seen, sparsify(twin, plan, kernels=kernels):
        step_logits(twin, prompt, path)
    return seen


def _each(
    model: LanguageModel, plan: Plan, kernels: str, compute: Callable[[LanguageModel], T]
) -> T:
    """What the model gives with the plan."""
    twin = model.twin()
    with sparsify(twin, plan, kernels=kernels):
        return compute(twin)


def _paths(model: LanguageModel, prompts: Sequence[torch.Tensor]) -> list[list[int]]:
    return [greedy_path(model, prompt, NEW_TOKENS) for prompt in prompts]


def _in_dtype(plan: Plan, dtype: torch.dtype) -> Plan:
    """The plan with thresholds that both precisions can represent."""
    selectors = {
        name: Threshold(float(torch.tensor(selector.value, dtype=dtype)))
        if isinstance(selector, Threshold)
        else selector
        for name, selector in plan.selectors.items()
    }
    return replace(plan, selectors=selectors)


def _generate(model: LanguageModel, prompt: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.model.generate(  # type: ignore[operator]
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        pad_token_id=0,
    )
    return found.cpu()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def _dtype(model: LanguageModel) -> str:
    return str(model.dtype).removeprefix("torch.")

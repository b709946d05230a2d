from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.models import forward, load_model, parallel
from pytest_sparsity.models.divergence import kl, kl_gradient
from pytest_sparsity.models.forward import (
    check_head,
    hidden_states,
    in_rows,
    log_probabilities,
    log_softmax,
    logits,
    run_documents,
)
from pytest_sparsity.models.parallel import in_parallel

CPU = torch.device("cpu")
TEXT = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(3))


# --- the head


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_decoder_and_head_run_apart_are_the_model(family: str, small_model: Any) -> None:
    model = small_model(family)
    check_head(model)
    with torch.inference_mode():
        whole = model.model(input_ids=TEXT[None]).logits[0]
        apart = logits(model, hidden_states(model, TEXT))
    torch.testing.assert_close(apart, whole)


def test_a_cap_on_the_logits_is_applied(small_model: Any) -> None:
    model = small_model("gemma3", final_logit_softcapping=2.0)
    check_head(model)
    with torch.inference_mode():
        found = logits(model, hidden_states(model, TEXT))
    assert float(found.abs().max()) <= 2.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_passes(dtype: str) -> None:
    check_head(load_model("tiny-random", dtype=dtype))


def test_a_model_that_does_more_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")
    plain = model.model.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        return SimpleNamespace(logits=plain(*args, **kwargs).logits * 1.1)

    model.model.forward = scaled
    with pytest.raises(SparsityError) as caught:
        check_head(model)
    assert str(caught.value) == (
        "model small-llama: the logits of LlamaForCausalLM are not a plain projection of its last "
        "hidden states; add its rule to pytest_sparsity/models/forward.py"
    )


def test_a_model_that_needs_its_cache_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")
    plain = model.model.forward

    def scaled(*args: Any, use_cache: bool = True, **kwargs: Any) -> Any:
        return SimpleNamespace(logits=plain(*args, **kwargs).logits * (1.1 if use_cache else 1))

    model.model.forward = scaled
    with pytest.raises(SparsityError) as caught:
        check_head(model)
    assert str(caught.value) == (
        "model small-llama: LlamaForCausalLM gives other logits without a cache than with one, in "
        "this version of transformers; take a newer one"
    )


def test_a_model_that_does_not_run_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise AttributeError("no num_hidden_layers\nand more lines")

    model.model.forward = broken
    with pytest.raises(SparsityError) as caught:
        check_head(model)
    assert str(caught.value) == (
        "--sparsity-model small-llama: LlamaForCausalLM does not run with the cache that it makes "
        "itself (AttributeError: no num_hidden_layers); pass another model, or take another "
        "version of transformers"
    )


def test_a_model_without_output_embeddings_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")
    model.model.get_output_embeddings = lambda: None
    with pytest.raises(SparsityError, match="LlamaForCausalLM has no output embeddings"):
        check_head(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # transformers 4's ModernBERT
@pytest.mark.parametrize("kind", ["modernbert-decoder", "inkling_text"])
def test_what_stands_before_the_projection_is_known(kind: str) -> None:
    """ModernBERT's layer and norm, Inkling's divisor and its rows that stand for no token."""
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {kind}")
    model = load_model(f"tiny:{kind}")
    check_head(model)
    if kind == "inkling_text":
        model.model.config.unpadded_vocab_size = 200
        check_head(model)
        assert logits(model, hidden_states(model, TEXT)).shape[-1] == 200
    with torch.inference_mode():
        whole = model.model(input_ids=TEXT[None]).logits[0]
        apart = logits(model, hidden_states(model, TEXT))
    torch.testing.assert_close(apart, whole, rtol=1e-4, atol=1e-5)


def test_a_decoder_that_cannot_be_told_of_a_cache_is_run(small_model: Any) -> None:
    """OpenAI's GPT of transformers 4."""
    model = small_model("llama")
    expected = hidden_states(model, TEXT)
    model = small_model("llama")
    forward = model.decoder.forward
    model.decoder.forward = lambda input_ids: forward(input_ids)
    assert torch.equal(hidden_states(model, TEXT), expected)
    assert not model.takes_use_cache


def test_broken_weights_are_not_taken_for_another_rule(small_model: Any) -> None:
    model = small_model("llama")
    model.model.lm_head.weight[5] = torch.nan
    with pytest.raises(SparsityError, match="not finite"):
        check_head(model)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 150])
def test_rows_cover_everything_once(count: int) -> None:
    slices = list(in_rows(count))
    assert [row for rows in slices for row in range(rows.start, rows.stop)] == list(range(count))


def test_logits_in_rows_are_the_whole(tiny: Any) -> None:
    hidden = hidden_states(tiny, TEXT)
    with torch.inference_mode():
        whole = logits(tiny, hidden)
        parts = torch.cat([logits(tiny, hidden[rows]) for rows in in_rows(len(hidden))])
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


def test_log_probabilities_in_blocks_are_the_whole(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = hidden_states(tiny, TEXT)
    vocabulary = tiny.head.weight.shape[0]
    monkeypatch.setattr(forward, "_VALUES", 7 * vocabulary)
    with torch.inference_mode():
        whole = logits(tiny, hidden).double().log_softmax(-1)
        blocks = list(log_probabilities(tiny, hidden))
    assert max(len(values) for _, values in blocks) == 7
    rows = [row for part, _ in blocks for row in range(part.start, part.stop)]
    assert rows == list(range(len(hidden)))
    found = torch.cat([values for _, values in blocks])
    torch.testing.assert_close(found.double(), whole, rtol=1e-5, atol=1e-5)


def test_documents_come_back_in_order(tiny: Any) -> None:
    texts = [TEXT[:n] for n in (150, 1, 40, 3)]
    done: list[None] = []
    states = run_documents(tiny, texts, on_done=lambda: done.append(None))
    assert [len(state) for state in states] == [150, 1, 40, 3]
    assert len(done) == 4
    for text, state in zip(texts, states, strict=True):
        torch.testing.assert_close(state, hidden_states(tiny, text), rtol=1e-5, atol=1e-5)


# --- in parallel


def slow_first(number: int) -> int:
    time.sleep(0.05 * (number == 0))
    return number * number


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_are_in_order(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: workers)
    assert list(in_parallel(slow_first, range(9), device=CPU)) == [n * n for n in range(9)]
    assert list(in_parallel(slow_first, [], device=CPU)) == []


def test_as_many_workers_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 3)
    together = threading.Barrier(3, timeout=10)
    assert len(list(in_parallel(lambda _: together.wait(), range(3), device=CPU))) == 3


def test_an_accelerator_is_used_by_one_thread() -> None:
    threads = in_parallel(lambda _: threading.get_ident(), range(5), device=torch.device("meta"))
    assert set(threads) == {threading.get_ident()}


def test_the_first_exception_is_raised_and_the_rest_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        if number >= 2:
            time.sleep(0.1)
            raise KeyError(f"number {number}")
        return number

    results = in_parallel(work, range(50), device=CPU)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="number 2"):
        next(results)
    assert len(started) <= 4


@pytest.mark.parametrize("fails", [False, True])
def test_the_caller_keeps_its_threads(fails: bool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        inside = in_parallel(
            lambda n: (torch.get_num_threads(), 1 // n), [5, not fails], device=CPU
        )
        if fails:
            with pytest.raises(ZeroDivisionError):
                list(inside)
        else:
            assert [threads for threads, _ in inside] == [1, 1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_workers_of_xdist_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    for workers, expected in (("", 8), ("1", 8), ("2", 4), ("3", 2), ("20", 1)):
        if workers:
            monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", workers)
        else:
            monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
        assert parallel.cores() == expected


# --- divergence


def test_divergence_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = ((3 * torch.randn(70, 11, generator=generator)).log_softmax(-1) for _ in range(2))
    found = kl(p, q)
    a, b = p.double().exp(), q.double().exp()
    torch.testing.assert_close(found.double(), (a * (a / b).log()).sum(-1), rtol=1e-5, atol=1e-6)
    assert bool((found > 0).all())
    assert not torch.allclose(found, kl(q, p))
    assert torch.equal(kl(p, p), torch.zeros(70))


@pytest.mark.parametrize("cap", [None, 3.0])
def test_the_gradient_in_rows_is_the_gradient(cap: float | None, small_model: Any) -> None:
    model = small_model("gemma3", final_logit_softcapping=cap)
    generator = torch.Generator().manual_seed(0)
    dense, sparse = (torch.randn(150, 32, generator=generator) for _ in range(2))
    total, gradient = kl_gradient(model, dense, model, sparse)
    leaf = sparse.clone().requires_grad_()
    loss = kl(log_softmax(logits(model, dense)), log_softmax(logits(model, leaf))).sum()
    (expected,) = torch.autograd.grad(loss, leaf)
    assert total == pytest.approx(float(loss.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    assert not sparse.requires_grad

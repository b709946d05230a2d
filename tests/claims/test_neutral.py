from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from pytest_sparsity.claims.catalog import CATALOG
from pytest_sparsity.claims.catalog_neutral import folding_error
from pytest_sparsity.claims.claim import investigate
from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.finding import ClaimVerdict
from pytest_sparsity.claims.tracing import ADDITION, PRODUCT, operations, step_of
from pytest_sparsity.core.statistics import Interval
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.spon.library import MissingVectors
from pytest_sparsity.methods.spon.vectors import SpontaneousVectors
from pytest_sparsity.models import load_model
from pytest_sparsity.settings.options import OFF
from pytest_sparsity.sweep.cell import Configuration
from pytest_sparsity.sweep.session import SweepSession

EVEN = Interval(1.0, 0.99, 1.01, 60)


@pytest.fixture(scope="module")
def model(sparsity_cache):
    return load_model("tiny-random", cache=sparsity_cache)


@pytest.fixture(scope="module")
def prompt():
    return torch.arange(1, 9)[None]


@dataclass
class Prepared:
    """Plans made by hand, of which tests spoil one."""

    loaded: object
    without: Plan
    with_spon: Plan
    found: SpontaneousVectors

    def load(self, name):
        return self.loaded

    def plan(self, configuration: Configuration) -> Plan:
        return self.without if configuration.spon == OFF else self.with_spon

    def vectors(self, configuration):
        return self.found

    def prompts(self, name):
        return [SimpleNamespace(tokens=torch.arange(1, 9))]


@pytest.fixture
def prepared(model):
    torch.manual_seed(0)
    a = {site.name: torch.randn(site.module.in_features) / 50 for site in model.sites}
    vectors = SpontaneousVectors(a, {})
    plan = Plan("teal", 0.5, {site.name: Threshold(0.1) for site in model.sites})
    return Prepared(model, plan, replace(plan, bias=vectors.fold(model)), vectors)


def judged(prepared, time=EVEN):
    stopwatch = None if time is None else lambda first, second: time
    session = cast(SweepSession, SimpleNamespace(models=prepared, plans=prepared, texts=prepared))
    return investigate(CATALOG["6"], Evidence(session, "tiny-random", stopwatch))


@pytest.mark.parametrize(
    ("time", "outcome"),
    [
        (EVEN, ClaimVerdict.SUPPORTED),
        (Interval(1.2, 1.15, 1.25, 60), ClaimVerdict.REFUTED),
        (Interval(0.8, 0.75, 0.85, 60), ClaimVerdict.REFUTED),
        (Interval(1.0, 0.9, 1.1, 60), ClaimVerdict.INCONCLUSIVE),
    ],
)
def test_verdict_by_time(prepared, time, outcome):
    finding = judged(prepared, time)
    assert finding.outcome is outcome, finding.why
    sides = finding.data["operations"]
    assert sides["with"][PRODUCT] == sides["without"][PRODUCT] > 0
    sites = len(prepared.found.a)
    assert sides["with"][ADDITION] == sides["without"].get(ADDITION, 0) + sites


def test_untestable_without_vectors_or_a_clock(prepared):
    assert judged(prepared, None).outcome is ClaimVerdict.UNTESTABLE

    def missing(configuration):
        raise MissingVectors("no trained spontaneous vectors fit tiny-random")

    prepared.vectors = missing
    finding = judged(prepared)
    assert finding.outcome is ClaimVerdict.UNTESTABLE
    assert finding.why.startswith("tiny-random-teal-0.50-spon: no trained")


class _Multiplied:
    """A selector that costs one more product."""

    def __call__(self, x):
        return x @ torch.eye(x.shape[-1], dtype=x.dtype)


class _Doubled:
    """A selector that costs one more operation that is neither product nor addition."""

    def __call__(self, x):
        return x.mul(1.0)


@pytest.mark.parametrize(
    ("selector", "label"),
    [(_Multiplied(), "matrix products added"), (_Doubled(), "operations added but biases")],
)
def test_an_operation_more_refutes_it(prepared, selector, label):
    site = next(iter(prepared.without.selectors))
    for plan, chosen in (("without", lambda x: x.clone()), ("with_spon", selector)):
        own = getattr(prepared, plan)
        setattr(prepared, plan, replace(own, selectors={**own.selectors, site: chosen}))
    finding = judged(prepared)
    assert finding.outcome is ClaimVerdict.REFUTED
    assert label in finding.why


def test_a_bias_that_is_not_the_vectors_refutes_it(model, prepared):
    site, bias = next(iter(prepared.with_spon.bias.items()))
    wrong = replace(prepared.with_spon, bias={**prepared.with_spon.bias, site: bias * 1.1})
    twin = model.twin()
    with sparsify(twin, prepared.with_spon):
        assert folding_error(twin, model, prepared.found) <= 1
    with sparsify(twin, wrong):
        assert folding_error(twin, model, prepared.found) > 1
    prepared.with_spon = wrong
    finding = judged(prepared)
    assert finding.outcome is ClaimVerdict.REFUTED
    assert "error of a folded bias" in finding.why


def test_a_step_is_the_same_however_often(model, prompt):
    step = step_of(model, prompt)
    first = step()
    assert first.shape[:2] == (1, 1)
    assert all(torch.equal(step(), first) for _ in range(3))


@pytest.mark.parametrize(
    "kind", ["gemma3_text", "gpt_oss", "mamba", "qwen3_next", "falcon_h1", "xlstm"]
)
def test_caches_that_cannot_be_cut_back_give_the_same_step(kind):
    """Of windows that the prompt is longer than, and of recurrent layers."""
    model, prompt = load_model(f"tiny:{kind}", dtype="float32"), torch.arange(1, 33)[None]
    step = step_of(model, prompt)
    first = step()
    assert all(torch.equal(step(), first) for _ in range(2))
    with torch.no_grad():
        before = model.model(input_ids=prompt, use_cache=False).logits[:, -1:].argmax(-1)
        whole = model.model(input_ids=torch.cat([prompt, before], 1), use_cache=False).logits
    torch.testing.assert_close(first, whole[:, -1:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["openai-gpt", "recurrent_gemma", "rwkv"])
def test_a_model_without_a_cache_cannot_be_tested(kind):
    model = load_model(f"tiny:{kind}", dtype="float32")
    vectors = SpontaneousVectors({}, {})
    plan = Plan("teal", 0.5, {site.name: Threshold(0.1) for site in model.sites})
    finding = judged(Prepared(model, plan, plan, vectors))
    assert finding.outcome is ClaimVerdict.UNTESTABLE
    assert "has no cache that gives the same as all tokens, so that it has no step" in finding.why


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 3, 4)])
def test_a_bias_is_an_addition(shape):
    x, weight, bias = torch.ones(shape), torch.ones(5, 4), torch.ones(5)
    with torch.no_grad():
        plain = operations(lambda: torch.nn.functional.linear(x, weight))
        biased = operations(lambda: torch.nn.functional.linear(x, weight, bias))
    assert plain == {PRODUCT: 1}
    assert biased == {PRODUCT: 1, ADDITION: 1}


def test_attention_is_a_product_and_views_are_nothing():
    x = torch.ones(1, 1, 2, 4)
    with torch.no_grad():
        found = operations(lambda: torch.nn.functional.scaled_dot_product_attention(x, x, x))
        views = operations(lambda: x.view(2, 4).t().unsqueeze(0)[..., 0])
    assert found[PRODUCT] == 1
    assert not views

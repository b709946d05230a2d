from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.corpora import Document
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.probes import make_probes, probe_states, score_probes
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold

pytestmark = pytest.mark.usefixtures("one_thread")

ITEMS = tuple(Item(f"i{n}", f"Q: {n}?", (f" {n}",), 0, f" {'hm, ' * n}so it is") for n in range(4))
TASK = Task("echo", "reasoning", "chain", "sum", 0.25, ITEMS, "none", "so it is")
DOCUMENTS = [Document(f"d{n}", "some prose that goes on and on " * 9, "x") for n in range(3)]


def test_prose_has_the_length_and_the_start_of_its_item(small_model: Any) -> None:
    for family in ("llama", "gemma3"):
        model = small_model(family)
        for item, probe in zip(ITEMS, make_probes(model, TASK, ITEMS, DOCUMENTS), strict=True):
            whole = item.context + item.chain + item.choices[0]
            lead = int(model.bos is not None)
            assert len(probe.prose.tokens) == len(probe.reasoning.tokens) == len(whole) + lead
            assert probe.prose.start == probe.reasoning.start == len(item.context) + lead
            assert (probe.prose.tokens[0] == model.bos) is bool(lead)


def test_an_item_has_the_same_document_however_many_are_measured(small_model: Any) -> None:
    model = small_model("llama")
    whole = make_probes(model, TASK, ITEMS, DOCUMENTS)
    assert make_probes(model, TASK, ITEMS[2:], DOCUMENTS) == whole[2:]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_divergence_is_its_definition(family: str, small_model: Any) -> None:
    model = small_model(family)
    plan = Plan("t", 0.5, {site.name: Threshold(0.4) for site in model.sites})
    probes = make_probes(model, TASK, ITEMS, DOCUMENTS)
    reference = probe_states(model, probes)
    with sparsify(model, plan):
        scored = score_probes(model, TASK, probes, reference)
    for probe, found in zip(probes, scored, strict=True):
        for part in ("reasoning", "prose"):
            span = getattr(probe, part)
            ids = torch.tensor([span.tokens])
            rows = slice(span.start - 1, len(span.tokens) - 1)
            with torch.inference_mode():
                p = model.model(input_ids=ids).logits[0, rows].double().log_softmax(-1)
                with sparsify(model, plan):
                    q = model.model(input_ids=ids).logits[0, rows].double().log_softmax(-1)
            assert found["tokens"] == len(q)
            assert found[part]["kl"] == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-4)
            targets = ids[0, span.start :, None]
            likelihood = float(q.gather(-1, targets).sum())
            assert found[part]["log_likelihood"] == pytest.approx(likelihood, rel=1e-5)
            assert found[part]["agreement"] == int((p.argmax(-1) == q.argmax(-1)).sum())


def test_the_dense_model_does_not_diverge_from_itself(small_model: Any) -> None:
    model = small_model("llama")
    probes = make_probes(model, TASK, ITEMS, DOCUMENTS)
    alone = score_probes(model, TASK, probes)
    assert alone == score_probes(model, TASK, probes, probe_states(model, probes))
    assert all(each["reasoning"]["kl"] == 0 for each in alone)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_what_is_shared_changes_nothing(family: str, small_model: Any) -> None:
    """Items with a long common beginning, more of them than documents."""
    model = small_model(family)
    shots = "Q: 1 and 1? A: 2. Q: 2 and 2? A: 4. "
    items = [replace(item, context=shots + item.context) for item in ITEMS]
    probes = make_probes(model, replace(TASK, items=tuple(items)), items, DOCUMENTS)
    plan = Plan("t", 0.5, {site.name: Threshold(0.4) for site in model.sites})
    with sparsify(model, plan):
        found, expected = (probe_states(model, probes, share=share) for share in (True, False))
    assert found.keys() == expected.keys()
    for name, states in found.items():
        for one, other in zip(states, expected[name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_document_that_is_too_short_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")
    with pytest.raises(SparsityError, match="document d0 has 4 tokens, fewer than the 16 of item"):
        make_probes(model, TASK, ITEMS, [Document("d0", "abcd", "x")])

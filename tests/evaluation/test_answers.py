from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.answers import score_answers
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold

pytestmark = pytest.mark.usefixtures("one_thread")

SHOTS = "Q: 1 + 1? A: one and one is two. So it is 2.\n"
ITEMS = tuple(
    Item(
        f"i{n}",
        f"{SHOTS}Q: {n} + 1? A:",
        (f" {n + 1}", f" {n}"),
        0,
        f" {'well, ' * (n % 4)}{n} and one is {n + 1}. So it is",
    )
    for n in range(9)
)
TASK = Task("sums", "reasoning", "chain", "sum", 0.5, ITEMS, "none", "So it is")


def log_likelihood(model: Any, before: str, text: str) -> tuple[float, bool]:
    lead = [] if model.bos is None else [model.bos]
    start = len(lead) + len(before.encode())
    ids = torch.tensor([*lead, *model.tokenizer(before + text).input_ids])
    with torch.inference_mode():
        found = model.model(input_ids=ids[None]).logits[0].log_softmax(-1)
    steps = range(start, len(ids))
    total = sum(float(found[k - 1, ids[k]]) for k in steps)
    return total, all(int(found[k - 1].argmax()) == int(ids[k]) for k in steps)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("sparse", [False, True])
def test_chain_and_answer_are_scored_as_plain_sequences(
    family: str, sparse: bool, small_model: Any
) -> None:
    model = small_model(family)
    if sparse:
        sparsify(model, Plan("t", 0.5, {site.name: Threshold(0.4) for site in model.sites}))
    for item, found in zip(ITEMS, score_answers(model, TASK, ITEMS), strict=True):
        chain, _ = log_likelihood(model, item.context, item.chain)
        answer, greedy = log_likelihood(model, item.context + item.chain, item.choices[0])
        assert found["id"] == item.id
        assert found["chain"] == pytest.approx(chain, rel=1e-5, abs=1e-4)
        assert found["answer"] == pytest.approx(answer, rel=1e-5, abs=1e-4)
        assert found["right"] is greedy
        assert found["chain_tokens"] == len(item.chain.encode())
        assert found["answer_tokens"] == len(item.choices[0].encode())


def test_an_answer_is_right_when_it_is_the_greedy_one(small_model: Any) -> None:
    model = small_model("llama")
    found = {}
    for code in range(65, 123):
        item = replace(ITEMS[0], context=f"{chr(code) * 3} and so on")
        ids = model.tokenizer(item.context + item.chain).input_ids
        with torch.inference_mode():
            best = int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        letter = model.tokenizer.decode([best])
        if model.tokenizer(letter).input_ids != [best]:
            continue  # not a whole character
        other = "~" if letter != "~" else "!"
        for answer, right in ((letter, True), (other, False)):
            asked = replace(item, choices=(answer,))
            found[right] = score_answers(model, TASK, [asked])[0]["right"]
    assert found == {True: True, False: False}


def test_an_item_that_is_too_long_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")
    long = Item("long", "Q?", (" 1",), 0, " x" * 300)
    with pytest.raises(SparsityError, match="item long of task sums has 604 tokens, more than the"):
        score_answers(model, TASK, [long])


def test_nan_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")
    model.model.lm_head.weight[5] = torch.nan
    with pytest.raises(SparsityError, match=r"not finite .* on item i0 of task sums"):
        score_answers(model, TASK, ITEMS[:1])

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation import exact_match
from pytest_sparsity.evaluation.exact_match import answer_in, generate_answers
from pytest_sparsity.evaluation.generation import first_divergence
from pytest_sparsity.evaluation.items import Item, make_item
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.evaluation.texts import Prompt, continue_texts
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import PrefillPolicy

pytestmark = pytest.mark.usefixtures("one_thread")
FAMILIES = ["llama", "qwen2", "gemma3"]


def prompts(model: Any, count: int, stops: tuple[str, ...] = ()) -> list[Prompt]:
    lead = [] if model.bos is None else [model.bos]
    texts = [f"the same beginning, {'and ' * (n % 3)}{n} then" for n in range(count)]
    return [Prompt([*lead, *model.tokenizer(text).input_ids], 10, stops) for text in texts]


def attach(model: Any, policy: str) -> None:
    selectors = {site.name: Threshold(0.4) for site in model.sites}
    sparsify(model, Plan("t", 0.5, selectors, PrefillPolicy(policy)))


# --- texts


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", [None, "first:1", "first:30", "none", "half"])
def test_texts_are_those_of_generate(
    family: str, policy: str | None, small_model: Any, generated: Any
) -> None:
    model = small_model(family)
    if policy is not None:
        attach(model, policy)
    asked = prompts(model, 11)
    found = continue_texts(model, asked, share=policy != "half")
    for prompt, (tokens, text) in zip(asked, found, strict=True):
        expected = generated(model, prompt.tokens, 10, eos_token_id=256, pad_token_id=256)
        if 256 in expected:
            expected = expected[: expected.index(256)]
        assert tokens == expected
        assert text == model.tokenizer.decode(tokens)


@pytest.mark.parametrize("policy", ["first:1", "first:30", "none"])
def test_sharing_the_beginning_changes_nothing(policy: str, small_model: Any) -> None:
    model = small_model("llama")
    attach(model, policy)
    asked = prompts(model, 7)
    assert continue_texts(model, asked, share=True) == continue_texts(model, asked, share=False)


def test_a_stop_ends_a_text_and_is_cut_off(small_model: Any, monkeypatch: Any) -> None:
    model = small_model("llama")
    words = iter(model.tokenizer("yes\nno").input_ids)
    monkeypatch.setattr(
        "pytest_sparsity.evaluation.texts.likeliest",
        lambda _, logits: torch.tensor([[next(words)]]),
    )
    ((tokens, text),) = continue_texts(model, prompts(model, 1, ("\n",)), share=True)
    assert (text, model.tokenizer.decode(tokens)) == ("yes", "yes\n")
    assert model.tokenizer.decode([next(words)]) == "n"


def test_the_limit_ends_a_text(small_model: Any) -> None:
    model = small_model("qwen2")
    tokens = model.tokenizer("and so").input_ids
    ((path, _),) = continue_texts(model, [Prompt(tokens, 3, ())], share=True)
    assert len(path) <= 3


def test_nan_while_generating_is_one_clear_sentence(small_model: Any) -> None:
    model = small_model("llama")
    model.model.lm_head.weight[5] = torch.nan
    with pytest.raises(SparsityError, match="gives NaN logits while it generates text"):
        continue_texts(model, prompts(model, 3), share=True)


@pytest.mark.parametrize(
    ("path", "dense", "step"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2, 4], [1, 2, 3], 2),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2, 3, 4], [1, 2, 3], 3),
        ([], [1], 0),
        ([], [], None),
    ],
)
def test_first_divergence(path: list[int], dense: list[int], step: int | None) -> None:
    assert first_divergence(path, dense) == step


# --- answers


@pytest.mark.parametrize(
    ("text", "cue", "answer"),
    [
        (" 2 + 3 = 5. So the answer is 5.", "So the answer is", "5"),
        (" So the answer is 4. No. So the answer is 5.", "So the answer is", "5"),
        (" It is 5.", "So the answer is", ""),
        (" So the answer is 3.5.", "So the answer is", "3.5"),
        (" So the answer is Ann. And then", "So the answer is", "Ann"),
        (" triangle\nmore", "", "triangle"),
        ("", "", ""),
    ],
)
def test_the_answer_is_what_follows_the_last_cue(text: str, cue: str, answer: str) -> None:
    assert answer_in(text, cue) == answer


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("5", " 5", True),
        ("$1,200", " 1200", True),
        ("5.0", " 5", True),
        ("$18.00", " 18", True),
        ("2.50", " 2.5", True),
        ("100", " 1", False),
        ("ann", " Ann", True),
        ("5 hats", " 5", False),
        ("15", " 5", False),
        ("", " 5", False),
    ],
)
def test_ways_of_writing_one_answer(
    answer: str, gold: str, right: bool, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        exact_match, "continue_texts", lambda *_, **__: [([1], f" So it is {answer}.")]
    )
    item = Item("i", "Q?", (gold,), 0, " So it is")
    task = Task("t", "reasoning", "chain", "sum", 0.5, (item,), "none", "So it is")
    (found,) = generate_answers(small_model("llama"), task, [item], share=True)
    assert found["right"] is right
    assert found["answer"] == answer


def test_a_choice_task_is_continued_to_the_end_of_the_line(tiny: Any) -> None:
    items = tuple(Item(f"i{n}", f"{n} is", (" odd", " even"), n % 2) for n in range(5))
    task = Task("parity", "language", "choice", "sum", 0.5, items, "none")
    found = generate_answers(tiny, task, items, share=True)
    assert [each["id"] for each in found] == [item.id for item in items]
    for item, each in zip(items, found, strict=True):
        assert each["prompt_tokens"] == len(tiny.tokenizer(item.context).input_ids)
        assert "\n" not in each["text"]
        assert len(each["path"]) <= len(item.choices[item.gold]) * 3 // 2 + 8


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        (" Hence, Mr. Smith sleeps. Then", " Hence, Mr. Smith sleeps.", True),
        (" Hence, Mr. Smith sleeps", " Hence, Mr. Smith sleeps.", True),
        (" Hence, Mr. Jones sleeps.", " Hence, Mr. Smith sleeps.", False),
        (" Hence, Mr. Smith", " Hence, Mr. Smith sleeps.", False),
        ("", " ?", False),
        (" odd. And so on. Further", " odd", True),
    ],
)
def test_an_answer_has_as_many_sentences_as_the_right_one(
    text: str, gold: str, right: bool, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_match, "continue_texts", lambda *_, **__: [([1], text)])
    item = Item("i", "Q", (gold,), 0)
    task = Task("t", "user", "choice", "sum", 0.5, (item,), "none")
    (found,) = generate_answers(tiny, task, [item], share=True)
    assert found["right"] is right


@pytest.mark.parametrize(("chain", "asked"), [("", "Which?\n"), ("\n\n It is", "Which?\n\n")])
def test_the_end_of_the_line_before_an_answer_is_in_the_prompt(
    chain: str, asked: str, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop is the end of a line, so that the model could not say anything."""
    seen: list[Prompt] = []

    def continued(_: Any, prompts: list[Prompt], **__: Any) -> list[Any]:
        seen.extend(prompts)
        return [([1], " odd")]

    monkeypatch.setattr(exact_match, "continue_texts", continued)
    context, choices = ("Which?\n", ["odd", "even"]) if not chain else ("Which?", [" odd"])
    item = make_item("i", context, choices, 0, chain)
    task = Task("t", "user", "choice", "sum", 0.5, (item,), "none")
    (found,) = generate_answers(tiny, task, [item], share=True)
    assert seen[0].tokens == tiny.tokenizer(asked).input_ids
    assert found["right"]


def test_who_does_not_see_the_choices_guesses_the_commonest_answer() -> None:
    golds = ["yes", "yes", "no", "maybe"]
    items = tuple(Item(str(n), "Q", (gold, "else"), 0) for n, gold in enumerate(golds))
    task = Task("t", "user", "choice", "sum", 0.5, items, "none")
    assert task.written_chance == 0.5
    assert replace(task, kind="last_word").written_chance == 0
    assert replace(task, items=items[1:]).written_chance == pytest.approx(1 / 3)


def test_an_item_that_is_too_long_to_be_answered_is_one_clear_sentence(small_model: Any) -> None:
    item = Item("long", "x" * 501, (" no",), 0)
    task = Task("t", "user", "choice", "sum", 0.5, (item,), "none")
    with pytest.raises(SparsityError, match=r"item long of task t has 51\d tokens, more than"):
        generate_answers(small_model("llama"), task, [item], share=True)

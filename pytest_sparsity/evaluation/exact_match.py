"""Answers that a model generates, with a chain of thought where the task has one.

A multiple-choice task is measured in the same way: its context is continued up to the end of
the line, without listing the choices.  So what generating itself costs a sparse model can be
told from what reasoning costs it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.scoring import token_limit, too_long
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.evaluation.texts import Prompt, continue_texts
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.tokens import text_tokens

_STOPS = ("\n",)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_SPARE = 8  # tokens beyond half as many again as the reference has


def generate_answers(
    model: LanguageModel, task: Task, items: Sequence[Item], *, share: bool
) -> list[dict[str, Any]]:
    """Continue every item's context greedily and compare what it answers, on all cores.

    Arguments as for :func:`~.choice.score_items`.

    Returns:
        Per item ``id``, ``text`` (up to the end of the line), ``path`` (its tokens, the end of
        the line among them), ``prompt_tokens``, ``answer`` (what was taken for it; empty if
        there was none) and ``right``.

    Raises:
        SparsityError: a logit is NaN, or an item is too long for the model.
    """
    prompts = [_prompt(model, task, item) for item in items]
    found = continue_texts(model, prompts, share=share)
    results = []
    for item, prompt, (path, text) in zip(items, prompts, found, strict=True):
        gold = item.choices[item.gold]
        answer = answer_in(text, task.cue, max(1, len(_SENTENCE_END.findall(gold.strip()))))
        results.append(
            {
                "id": item.id,
                "text": text,
                "path": path,
                "prompt_tokens": len(prompt.tokens),
                "answer": answer,
                "right": bool(answer) and _normal(answer) == _normal(gold),
            }
        )
    return results


def answer_in(text: str, cue: str, sentences: int = 1) -> str:
    """What follows the last ``cue`` in a text, or the text itself without one, up to its end.

    An answer ends with its line, or with as many ``sentences`` as the right one has ("Mr. Smith
    sleeps." counts as two); empty if the text lacks the cue.
    """
    if cue:
        _, found, text = text.rpartition(cue.strip())
        if not found:
            return ""
    line = text.strip().partition("\n")[0]
    ends = [end.start() for end in _SENTENCE_END.finditer(line)]
    return line[: ends[sentences - 1]].strip() if len(ends) >= sentences else line.strip()


def _normal(answer: str) -> str:
    """Without what two ways of writing one answer differ in."""
    bare = re.sub(r"\s+", " ", answer.casefold()).strip(" .!?")
    number = bare.replace(",", "").removeprefix("$")
    if not re.fullmatch(r"-?\d+(\.\d+)?", number):
        return bare
    return number.rstrip("0").rstrip(".") if "." in number else number


def _prompt(model: LanguageModel, task: Task, item: Item) -> Prompt:
    expected = item.chain + item.choices[item.gold]
    blank = expected[: len(expected) - len(expected.lstrip())]
    # The end of a line that stands before what is asked for must not end it.
    asked = item.context + "".join(blank.rpartition("\n")[:2])
    prompt = [*model.first_tokens, *text_tokens(model, asked)]
    reference = len(text_tokens(model, expected))
    allowed = reference + reference // 2 + _SPARE
    limit = token_limit(model)
    if limit is not None and len(prompt) + allowed > limit:
        raise too_long(model, task.name, item, len(prompt) + allowed, limit)
    return Prompt(prompt, allowed, _STOPS)

"""Which two records may be compared, and on which documents or items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_sparsity.settings.options import WEIGHTS
from pytest_sparsity.sweep.cell import DIVERGENCE, GENERATION, PERPLEXITY
from pytest_sparsity.sweep.record import Record

#: A document, item or prompt of two records of one cell: now, and before.
Pair = tuple[dict[str, Any], dict[str, Any]]

#: What must be equal in the keys of two records, and what it means when it is not.  Everything
#: else may differ, because it is what the gate is there to judge: kernels and other code, method
#: parameters, calibration, vectors, dtype, versions and the machine.
_MUST_AGREE = {
    WEIGHTS: "the models' weights differ",
    "seed": "the seeds differ",  # before the data: a seed draws other ones
    "data": "the evaluation data differ",
    "prefill": "the prefill policies differ",
}
_HOW_TO_ASK = (
    "to hold the changed model against the stored one, add --sparsity-across=weights, or run "
    "`pytest-sparsity compare`"
)
#: What is counted in tokens: documents are cut after so many, and figures are per token.
_BY_TOKENS = (PERPLEXITY, GENERATION, DIVERGENCE)
_OTHER_TOKENS = (
    "the tokenizers differ, so that the texts end at other places and figures per token have "
    "another unit; compare tasks, or bits per byte of whole documents (lm-eval's logged samples)"
)


def difference(now: Record, before: Record, *, across: bool = False) -> str:
    """Why two records of one evaluation cannot be compared; empty if they can.

    Args:
        now: of this run.
        before: of the stored run.
        across: the weights may differ.  Two models that cut text into different tokens are then
            compared by items that are right or wrong, and by nothing else.
    """
    for name, meaning in _MUST_AGREE.items():
        ours, theirs = _comparable(now.key.get(name)), _comparable(before.key.get(name))
        if ours == theirs or (across and name == WEIGHTS):
            continue
        found = f"{meaning}: {_shown(ours)} now, {_shown(theirs)} in the baseline"
        return f"{found}; {_HOW_TO_ASK}" if name == WEIGHTS else found
    if now.cell.kind in _BY_TOKENS:
        ours, theirs = now.key.get("tokens"), before.key.get("tokens")
        if ours and theirs and ours != theirs:
            return _OTHER_TOKENS
        if across and not (ours and theirs) and not same_weights(now, before):
            side = "now" if not ours else "in the baseline"
            return f"the record {side} does not say how its tokenizer cuts text; measure it again"
    return ""


def same_weights(now: Record, before: Record) -> bool:
    """Whether two records are of one model."""
    return bool(now.key.get(WEIGHTS) == before.key.get(WEIGHTS))


def common_units(now: Record, before: Record) -> list[Pair]:
    """What both records hold, by id, as JSON has it: tuples and lists are the same there."""
    stored = {unit["id"]: unit for unit in before.units}
    fresh = json.loads(json.dumps(now.units))
    return [(unit, stored[unit["id"]]) for unit in fresh if unit["id"] in stored]


def other_text(kind: str, pairs: list[Pair]) -> str:
    """Why a document of both records is not the same text, by its tokens; empty if all are."""
    if kind in (PERPLEXITY, DIVERGENCE):  # what is generated ends where the model ends it
        for now, before in pairs:
            if now["tokens"] != before["tokens"]:
                return (
                    f"document {now['id']} has {now['tokens']} tokens now and {before['tokens']} "
                    "in the baseline, so the texts differ; measure both on the same documents"
                )
    return ""


def _comparable(value: object) -> object:
    """The key without the number of items per forward pass, which changes rounding only."""
    if isinstance(value, Mapping):
        return {name: part for name, part in value.items() if name != "draw"}
    return value


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."

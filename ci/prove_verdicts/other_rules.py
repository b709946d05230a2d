"""Rules that others judge a run with, on the documents and items that our decisions saw."""

from __future__ import annotations

import math
from collections.abc import Iterator

from judging import Indices
from populations import Population
from rivals_accuracy import LM_EVAL, VLLM_PERPLEXITY, alarms
from scipy.stats import norm

from pytest_sparsity.sweep.cell import PERPLEXITY, TASK

#: Those of rivals_accuracy that a run is judged by here, and what they are called beside it.
NAMES = {
    LM_EVAL: "lm-eval's comparator: z of two unpaired means, p <= 0.05",
    VLLM_PERPLEXITY: "vLLM's tolerances: perplexity +1 %, accuracy -8 %",
}
_RELATIVE = 0.08


def called_worse(population: Population, seen: Indices) -> Iterator[str]:
    """The rules of :data:`NAMES` that call these units of a decision worse (lm-eval's: different).

    Accuracies are compared as in lm-eval's scripts/model_comparator.py, by their standard errors,
    and as in vLLM's .buildkite/lm-eval-harness, where measured >= stored * (1 - 0.08).
    """
    now, before = population.now[seen], population.before[seen]
    if population.kind == PERPLEXITY:
        tokens = [int(count) for count in population.weights[seen]]
        sides = (list(zip(tokens, map(float, side), strict=True)) for side in (now, before))
        found = alarms(*sides)
        yield from (rule for rule in NAMES if found[rule])
    elif population.kind == TASK:
        errors = [float(side.std(ddof=1)) / math.sqrt(len(side)) for side in (now, before)]
        apart, error = abs(float(now.mean() - before.mean())), math.hypot(*errors)
        if apart > 0 and (not error or 2 * norm.sf(apart / error) <= 0.05):
            yield LM_EVAL
        if now.mean() < (1 - _RELATIVE) * before.mean():
            yield VLLM_PERPLEXITY

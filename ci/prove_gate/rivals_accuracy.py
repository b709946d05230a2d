"""Rules that others gate a model's accuracy with, on the documents that our gate saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import norm

from pytest_sparsity.sweep.changes import PERPLEXITY_TOLERANCE

#: A document: its tokens, and its negative log-likelihood in nats.
Document = tuple[int, float]

LM_EVAL = "lm-eval comparator, unpaired z, p <= 0.05"
VLLM_PERPLEXITY = "vLLM perplexity test, +1 %"
VLLM_ACCURACY = "vLLM accuracy CI, rtol 8 %"
PLAIN = f"plain tolerance, +{100 * PERPLEXITY_TOLERANCE:g} %"
RULES = (LM_EVAL, VLLM_PERPLEXITY, VLLM_ACCURACY, PLAIN)


def alarms(now: Sequence[Document], before: Sequence[Document]) -> Mapping[str, bool]:
    """Whether each rule calls the model worse (lm-eval's: different).

    - lm-eval, scripts/model_comparator.py: z = difference / sqrt(SE1^2 + SE2^2), two-tailed,
      alpha = 0.05; here of the mean negative log-likelihood per token, as it reads accuracies only.
    - vLLM, tests/models/language/generation_ppl_test: (now - stored) / stored < PPL_TOL = 0.01.
    - vLLM, .buildkite/lm-eval-harness: measured >= stored * (1 - 0.08), which for perplexity, where
      lower is better, is now <= stored * (1 + 0.08).

    Args:
        now: of the model that is judged.
        before: the same documents by the model of the stored run.
    """
    rise = _perplexity(now) / _perplexity(before) - 1
    (mean, error), (other, other_error) = _mean_and_error(now), _mean_and_error(before)
    spread = math.hypot(error, other_error)
    p_value = 2 * float(norm.sf(abs(mean - other) / spread)) if spread else float(mean == other)
    return {
        LM_EVAL: p_value <= 0.05,
        VLLM_PERPLEXITY: rise >= 0.01,
        VLLM_ACCURACY: rise > 0.08,
        PLAIN: rise > PERPLEXITY_TOLERANCE,
    }


def _perplexity(documents: Sequence[Document]) -> float:
    return math.exp(math.fsum(n for _, n in documents) / sum(tokens for tokens, _ in documents))


def _mean_and_error(documents: Sequence[Document]) -> tuple[float, float]:
    """Mean over documents of the loss per token, and its standard error."""
    losses = np.array([nll / tokens for tokens, nll in documents])
    return float(losses.mean()), float(losses.std(ddof=1) / math.sqrt(len(losses)))

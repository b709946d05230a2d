"""Log-perplexities of several configurations on the same documents, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pytest_sparsity.core.statistics import (
    Interval,
    Table,
    Vector,
    bootstrap,
    paired_mean,
    paired_ratio,
)
from pytest_sparsity.sweep.cell import Configuration


def over(above: Vector, below: Vector) -> Vector:
    """``above / below`` where ``below`` is positive, NaN elsewhere."""
    undefined = np.full_like(above, math.nan)
    return np.asarray(np.divide(above, below, out=undefined, where=below > 0))


@dataclass(frozen=True)
class Losses:
    """Negative log-likelihoods of the same documents under several configurations.

    Attributes:
        corpus: which documents.
        tokens: of each document, [documents].
        nll: of each document, in nats, [documents], by configuration.
        seed: of the bootstrap.
        confidence: of the intervals.
    """

    corpus: str
    tokens: Vector
    nll: Mapping[Configuration, Vector]
    seed: int
    confidence: float

    def mean(self, terms: Mapping[Configuration, float]) -> Interval:
        """A sum of log-perplexities with these factors, in nats per token.

        Factors of 1 and -1 give a difference, paired over documents.
        """
        total = sum((factor * self.nll[c] for c, factor in terms.items()), 0.0 * self.tokens)
        return paired_mean(total, self.tokens, seed=self.seed, confidence=self.confidence)

    def increase(self, of: Configuration, over: Configuration) -> Interval:
        """Log-perplexity of one configuration less that of another, in nats per token."""
        return self.mean({of: 1.0, over: -1.0})

    def relative_increase(self, of: Configuration, over: Configuration) -> Interval:
        """The same as a relative change of perplexity: 0.02 is 2 % more."""
        change = self.increase(of, over)
        return replace(
            change,
            estimate=math.expm1(change.estimate),
            low=math.expm1(change.low),
            high=math.expm1(change.high),
            detectable=math.exp(change.estimate) * math.expm1(change.detectable),
        )

    def recovered(self, by: Configuration, of: Configuration, dense: Configuration) -> Interval:
        """Share that ``by`` wins back of what ``of`` lost in log-perplexity against ``dense``.

        Without a loss there is no share of it: the interval is then infinite.
        """
        won, lost = self.nll[of] - self.nll[by], self.nll[of] - self.nll[dense]
        if lost.sum() <= 0:
            note = f"no limits: {of.id} has lost nothing that could be recovered"
            return Interval(
                math.nan, -math.inf, math.inf, len(lost), self.confidence, math.inf, note
            )
        return paired_ratio(won, lost, seed=self.seed, confidence=self.confidence)

    def figure(self, of: Sequence[Configuration], statistic: Callable[[Table], Vector]) -> Interval:
        """Any figure of log-perplexities, with a bootstrap over documents.

        Args:
            of: the configurations.
            statistic: from their log-perplexities, in nats per token, [draws, configurations],
                to the figure of every draw, [draws].
        """
        table = np.column_stack([*(self.nll[c] for c in of), self.tokens])
        return bootstrap(
            [table],
            lambda sums: statistic(sums[0][:, :-1] / sums[0][:, -1:]),
            seed=self.seed,
            confidence=self.confidence,
        )

"""Calibration text and the statistics of one model on it, kept on disk between runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import check_writable, sha256_text
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.calibration import (
    ACTIVATED_MAGNITUDES,
    MAGNITUDES,
    MAGNITUDES_OF_EACH,
    Distribution,
    exact_quantiles,
)
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.methods.statistics import Cost, Statistic, Summed, by_name, collect
from pytest_sparsity.methods.stored import Quantile, Store
from pytest_sparsity.models import LanguageModel

if TYPE_CHECKING:
    from pytest_sparsity.methods.given.given import Given

T = TypeVar("T")

#: What a method wants that does not say so.
DEFAULT_WANTS = (MAGNITUDES.name,)

_WITH_QUANTILES = (MAGNITUDES.name, MAGNITUDES_OF_EACH.name, ACTIVATED_MAGNITUDES.name)


@dataclass(eq=False)
class Calibrator:
    """What methods may ask about a dense model's activations on held-in text.

    Attributes:
        model: the dense model.
        tokens: calibration documents, int64 [T] each.
        prefill: rows that it keeps dense do not count.
        cache: folder for results; None keeps them in memory only.
        progress: shows passes over the text.
        more: makes documents beyond ``tokens``, for what is trained; see :meth:`learning_text`.
        given: files that others made, which take the place of what would be trained or counted.
    """

    model: LanguageModel
    tokens: Sequence[torch.Tensor]
    prefill: PrefillPolicy
    cache: Path | None = None
    progress: Progress = silent
    more: Callable[[], Sequence[torch.Tensor]] | None = None
    given: Given | None = None
    _sums: dict[str, Summed] = field(default_factory=dict, repr=False)
    _quantiles: dict[tuple[str, float], Quantile] = field(default_factory=dict, repr=False)

    @cached_property
    def hash(self) -> str:
        """Identifies the text, the policy and the model: 16 hex digits."""
        tokens = ";".join(",".join(map(str, t.tolist())) for t in self.tokens)
        model = self.model
        of = model.weights_hash, model.network_hash, str(model.dtype)
        return sha256_text(tokens, self.prefill.name, *of)[:16]

    @cached_property
    def store(self) -> Store:
        """Where results are kept; methods may keep what they derive from them there, too."""
        folder = None
        if self.cache is not None:
            folder = self.cache / "calibrations" / f"{self.model.name}-{self.hash}"
        return Store(folder, self.hash)

    def quantiles(self, level: float) -> dict[str, float]:
        """Site to the exact ``level`` quantile of its |x|, see :func:`exact_quantiles`.

        Experts of a layer share theirs, which is that of all tokens that are routed to them: an
        expert alone sees few of a calibration text's, or none.
        """
        return self._of_sites(self._quantile(MAGNITUDES.name, level).thresholds)

    def quantiles_of_each(self, level: float) -> dict[str, float]:
        """The same, but each expert has its own, if a token of the text is routed to it."""
        shared = self.quantiles(level)
        return shared | self._quantile(MAGNITUDES_OF_EACH.name, level).thresholds

    def activated_quantiles(self, level: float) -> dict[str, float]:
        """``"{layer}.act"`` to the exact ``level`` quantile of |act(W_gate x)|."""
        return self._quantile(ACTIVATED_MAGNITUDES.name, level).thresholds

    def distributions(self) -> dict[str, Distribution]:
        """Site to the distribution of its |x|."""
        summed = self.statistic(MAGNITUDES.name)
        made = {
            first: Distribution(summed.totals[first], self.model.dtype)
            for first in dict.fromkeys(summed.same_as.values())
        }
        return self._of_sites({site: made[first] for site, first in summed.same_as.items()})

    def _of_sites(self, places: dict[str, T]) -> dict[str, T]:
        """What is known by place, by site: experts of a layer share a place."""
        if not any(site.routed for site in self.model.sites):
            return places
        return {site.name: places[site.pool] for site in self.model.sites}

    def learning_text(self) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Documents to train on and others, never trained on, to check and to calibrate on.

        Where there is no text beyond the calibration's, that is divided: an eighth is held out.

        Raises:
            SparsityError: there is one document only.
        """
        if self.more is not None and (more := self.more()):
            return more, self.tokens
        held_out = max(1, round(len(self.tokens) / 8))
        if len(self.tokens) <= held_out:
            raise SparsityError(
                f"--sparsity-calibration: {len(self.tokens)} document is too little to train "
                "predictors of neurons on and to check them; give a longer text"
            )
        return self.tokens[:-held_out], self.tokens[-held_out:]

    def collected(self, statistic: Statistic, tokens: Sequence[torch.Tensor]) -> Summed:
        """A statistic that is not registered, over ``tokens``, kept by its name like the others.

        Raises:
            SparsityError: what is found cannot be kept.
        """
        self._collect([statistic], tokens)
        return self._sums[statistic.name]

    def statistic(self, name: str) -> Summed:
        """The registered statistic ``name`` over the text, see :mod:`.statistics`.

        Raises:
            ValueError: no statistic has this name.
        """
        self.prepare(wants=[name])
        return self._sums[name]

    def prepare(self, levels: Iterable[float] = (), wants: Iterable[str] = DEFAULT_WANTS) -> None:
        """Collect in one pass what is wanted and not known.

        Quantiles of float32 activations take a second pass, for all levels at once.

        Args:
            levels: whose quantiles will be asked for, of the magnitudes that are wanted.
            wants: names of statistics.

        Raises:
            ValueError: a statistic is not known.
            SparsityError: what is found cannot be kept.
        """
        chosen = [by_name(name) for name in dict.fromkeys(wants)]
        self._collect(chosen, self.tokens)
        self._prepare_quantiles(
            [(s.name, level) for s in chosen if s.name in _WITH_QUANTILES for level in levels]
        )

    def _collect(self, statistics: Iterable[Statistic], tokens: Sequence[torch.Tensor]) -> None:
        """Take from the store what is there, and the others from one pass over ``tokens``."""
        unknown = [s for s in statistics if s.name not in self._sums]
        for statistic in unknown:
            if found := self.store.sums(statistic):
                self._sums[statistic.name] = found
        missing = [statistic for statistic in unknown if statistic.name not in self._sums]
        if not missing:
            return
        if self.store.folder is not None:
            check_writable(self.store.folder)  # rather than after the pass
        for pooled in (True, False):
            group = [statistic for statistic in missing if statistic.pooled is pooled]
            made = collect(self.model, tokens, self.prefill, group, self.progress) if group else {}
            for statistic in group:
                self._sums[statistic.name] = made[statistic.name]
                self.store.keep_sums(statistic, made[statistic.name])

    def cost(self, wants: Iterable[str] = DEFAULT_WANTS, level: float | None = None) -> Cost:
        """What the passes took in which ``wants`` and their quantiles of ``level`` were found.

        A pass that collected several of them counts once.
        """
        names = list(wants)
        costs = [self.statistic(name).cost for name in names]
        if level is not None:
            costs += [self._quantile(n, level).cost for n in names if n in _WITH_QUANTILES]
        passes = {cost.made: cost for cost in costs}.values()
        return Cost(
            sum(cost.tokens for cost in passes),
            round(sum(cost.seconds for cost in passes), 3),
            max((cost.made for cost in passes), default=0.0),
        )

    def _quantile(self, name: str, level: float) -> Quantile:
        self.prepare([level], [name])
        return self._quantiles[name, level]

    def _prepare_quantiles(self, wanted: Iterable[tuple[str, float]]) -> None:
        missing: list[tuple[str, float]] = []
        for name, level in dict.fromkeys(wanted):
            if (name, level) in self._quantiles:
                continue
            if (found := self.store.quantile(name, level, self._sums[name])) is not None:
                self._quantiles[name, level] = found
            else:
                missing.append((name, level))
        for pooled in (True, False):
            group = [each for each in missing if by_name(each[0]).pooled is pooled]
            if group:
                self._make_quantiles(group)

    def _make_quantiles(self, missing: Sequence[tuple[str, float]]) -> None:
        counts = {name: self._sums[name] for name, _ in missing}
        levels = {level for _, level in missing}
        started = time.monotonic()
        made = exact_quantiles(self.model, self.tokens, levels, self.prefill, counts, self.progress)
        tokens = sum(map(len, self.tokens)) if self.model.dtype == torch.float32 else 0
        cost = Cost(tokens, round(time.monotonic() - started, 3), time.time())
        for name, level in missing:
            self._quantiles[name, level] = Quantile(made[name][level], cost)
            self.store.keep_quantile(name, level, self._quantiles[name, level])

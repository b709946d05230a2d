"""TEAL with levels chosen site by site: the greedy search's answer as a method."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods import greedy
from pytest_sparsity.methods.calibration import MAGNITUDES
from pytest_sparsity.methods.calibrator import Calibrator
from pytest_sparsity.methods.given.given import Given
from pytest_sparsity.methods.greedy import SearchStep, Trail
from pytest_sparsity.methods.plan import Plan
from pytest_sparsity.methods.teal import of_model, thresholds_plan
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.plain_layers import shape_of

#: Raise it when the search finds something else, so that what was kept is searched anew.
_VERSION = 1


@dataclass(frozen=True)
class _Found:
    """How far the blocks of a model have been searched, and what that took.

    Attributes:
        trails: layer to its rows.
        until: every trail reaches this level.
        tokens: tokens of dense passes that were made for it.
        seconds: wall time.
    """

    trails: Mapping[int, Trail]
    until: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def parse(cls, content: Any) -> _Found:
        """Read what ``asdict`` gave, from JSON."""
        trails = {
            int(layer): [SearchStep(dict(row["levels"]), float(row["error"])) for row in rows]
            for layer, rows in content["trails"].items()
        }
        return cls(trails, *(content[name] for name in ("until", "tokens", "seconds")))


class TealGreedy:
    """Every block loses ``level`` of its weights, at the sites where its output suffers least.

    Args:
        sequences: calibration documents that the search looks at, spread over all of them.
        length: tokens of each.
        step: fraction of a block's weights per step of the search.
    """

    name = "teal_greedy"
    takes = ("teal",)
    wants: tuple[str, ...] = (MAGNITUDES.name,)

    def __init__(self, sequences: int = 2, length: int = 128, step: float = 0.01) -> None:
        self._sequences, self._length, self._step = sequences, length, step
        self.parameters: Mapping[str, object] = {
            "allocation": "greedy within blocks",
            "quantile": "|x|",
            "sequences": sequences,
            "length": length,
            "step": step,
        }

    def plan(self, calibrator: Calibrator, level: float) -> Plan:
        """Thresholds at the levels of the search, whose blocks all lose ``level``.

        Quantiles of float32 activations are interpolated within 1/128 of their magnitude.  Where
        TEAL's own histograms and tables are given, thresholds and levels are theirs.

        Raises:
            SparsityError: the prefill policy keeps all that the search looks at dense, the given
                tables do not reach the level, or the model has experts or layers in several places.
        """
        self.check_model(calibrator.model, calibrator.given)
        if calibrator.given is not None and (teal := calibrator.given.teal) is not None:
            thresholds = of_model(teal.planned_thresholds(level), calibrator.model)
            given = of_model(teal.levels(level), calibrator.model)
            return thresholds_plan(self.name, calibrator, level, thresholds, given)
        distributions = calibrator.distributions()
        found = self._search(calibrator, level)
        weights = {site.name: math.prod(shape_of(site.module)) for site in calibrator.model.sites}
        targets: dict[str, float] = {}
        for trail in found.trails.values():
            targets |= greedy.at_level(trail, weights, level)
        thresholds = {site: distributions[site].quantile(p) for site, p in targets.items()}
        cost = {"tokens": found.tokens, "seconds": found.seconds}
        return thresholds_plan(self.name, calibrator, level, thresholds, targets, cost)

    def check_model(self, model: LanguageModel, given: Given | None) -> None:
        """See that every token comes to every site of a model once, or that a search is given.

        Raises:
            SparsityError: not so, or TEAL's files are given and lack sites of it.
        """
        if given is not None and given.teal is not None:
            of_model(dict.fromkeys(given.teal.histograms, 0.0), model)
        elif several := [site.name for site in model.sites if not site.even]:
            raise SparsityError(
                f"method {self.name} runs a block for each of its sites, and not all tokens come "
                f"to {several[0]} of {model.name} once; use teal, or leave it out of "
                "--sparsity-methods for this model"
            )

    def _search(self, calibrator: Calibrator, level: float) -> _Found:
        """What is known, searched further where it does not reach ``level``."""
        name = f"{self.name}-{self._sequences}-{self._length}-{self._step:g}"
        known = calibrator.store.derived(name, _VERSION, _Found.parse) or _Found({})
        if known.trails and known.until >= level:
            return known
        sequences = _sample(calibrator.tokens, self._sequences, self._length)
        started = time.monotonic()
        trails = greedy.search(
            calibrator.model,
            sequences,
            calibrator.prefill,
            calibrator.distributions(),
            known.trails,
            until=level,
            step=self._step,
            progress=calibrator.progress,
        )
        seconds = round(known.seconds + time.monotonic() - started, 3)
        found = _Found(trails, level, known.tokens + sequences.numel(), seconds)
        calibrator.store.keep_derived(name, _VERSION, asdict(found))
        return found


def _sample(documents: Sequence[torch.Tensor], count: int, length: int) -> torch.Tensor:
    """The beginnings of ``count`` documents, evenly spread: int64 [count, length] or smaller."""
    count = min(count, len(documents))
    chosen = [documents[number * len(documents) // count] for number in range(count)]
    shortest = min(length, *map(len, chosen))
    return torch.stack([document[:shortest] for document in chosen])

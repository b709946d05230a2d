"""What methods may ask about activations: sums over the calibration text, by name.

A statistic is a function of the activations of one place in the model.  All that are wanted are
taken in one dense pass (:func:`collect`), and kept on disk by the calibrator.  A new one is
``register(Statistic("name", ("down",), counter))`` in the file of the method that wants it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress, silent
from pytest_sparsity.methods.gated import ACTIVATED
from pytest_sparsity.methods.positions import observe_documents
from pytest_sparsity.methods.prefill import PrefillPolicy, all_dense
from pytest_sparsity.methods.residual_stream import RESIDUAL
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.kinds import ALL_KINDS

#: ``Statistic.at`` of one that looks at the inputs of all sites.
ALL_SITES = ALL_KINDS

Counter = Callable[[str, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Statistic:
    """One thing that is added up over the calibration text.

    Attributes:
        name: in files and in what methods want.
        at: the kinds of sites whose inputs it looks at, ``"act"`` for act(W_gate x), or
            ``"residual"`` for the residual stream before the MLP's norm.
        counter: given the model, gives a function of a place ``"{layer}.{kind}"`` and x [R, K],
            its activations in one document without dense rows and padding, to a tensor of any
            shape (int64, float32 or float64); it is called from several threads, and its
            results are added up in document order.  A tensor that several sites read is
            counted once, as that of the first one looked at.
        version: raise it when the sums become others, so that caches are made anew.
        pooled: whether what the experts of a layer read is added up, or kept for each of them.
    """

    name: str
    at: tuple[str, ...]
    counter: Callable[[LanguageModel], Counter]
    version: int = 1
    pooled: bool = True


@dataclass(frozen=True)
class Cost:
    """What one pass over the calibration text took; equal for all that it collected.

    Attributes:
        tokens: tokens that went through the model.
        seconds: wall time.
        made: when, seconds since 1970: tells passes apart.
    """

    tokens: int
    seconds: float
    made: float


@dataclass(frozen=True, eq=False)
class Summed:
    """A statistic over the whole text.

    Attributes:
        totals: ``"{layer}.{kind}"`` to the sum, on the CPU; experts of a layer are summed up
            together, as ``"{layer}.experts.{kind}"``.
        rows: the same names to the number of activation rows that were added up.
        same_as: the same names to the first place that reads the same tensor (q for q, k and
            v), whose sum they share.
        cost: of the pass.
    """

    totals: Mapping[str, torch.Tensor]
    rows: Mapping[str, int]
    same_as: Mapping[str, str]
    cost: Cost


_STATISTICS: dict[str, Statistic] = {}


def register(statistic: Statistic) -> Statistic:
    """Make a statistic known by its name.

    Raises:
        ValueError: another has its name, or it looks at something that is not there.
    """
    if unknown := set(statistic.at) - {*ALL_SITES, ACTIVATED, RESIDUAL}:
        raise ValueError(f"statistic {statistic.name!r} looks at {sorted(unknown)}: no such place")
    if _STATISTICS.setdefault(statistic.name, statistic) != statistic:
        raise ValueError(f"a statistic named {statistic.name!r} is there already")
    return statistic


def by_name(name: str) -> Statistic:
    """The registered statistic with this name.

    Raises:
        ValueError: there is none.
    """
    if name not in _STATISTICS:
        raise ValueError(f"no statistic is named {name!r}; there are {sorted(_STATISTICS)}")
    return _STATISTICS[name]


def collect(
    model: LanguageModel,
    tokens: Sequence[torch.Tensor],
    prefill: PrefillPolicy,
    statistics: Iterable[Statistic],
    progress: Progress = silent,
) -> dict[str, Summed]:
    """Every statistic by name, in one pass over the text.

    Args:
        model: dense, nothing attached.
        tokens: documents, int64 [T] each.
        prefill: rows that it keeps dense are not counted.
        statistics: what to add up; all of them pooled, or none.
        progress: advances by one per document.

    Raises:
        SparsityError: an activation is not finite, or ``prefill`` keeps every row dense.
    """
    wanted = list(statistics)
    pooled = all(statistic.pooled for statistic in wanted)
    visit = _Visitor({statistic: statistic.counter(model) for statistic in wanted})
    started = time.monotonic()
    rows: dict[str, int] = {}
    same_as: dict[str, str] = {}
    totals: dict[tuple[str, str], torch.Tensor] = {}
    also = {place for statistic in wanted for place in statistic.at if place not in ALL_SITES}
    with progress(f"calibrate {model.name}", len(tokens), "document") as task:
        for found in observe_documents(model, prefill, tokens, visit, also=also, pooled=pooled):
            for place, (first, count, counted) in found.items():
                same_as[place] = first
                rows[place] = rows.get(place, 0) + count
                for name in counted if place == first else ():
                    key = name, place
                    totals[key] = totals[key] + counted[name] if key in totals else counted[name]
            task.advance()
    if not all(rows.values()):
        raise all_dense(prefill, "calibration text")
    seconds = round(time.monotonic() - started, 3)
    cost = Cost(sum(map(len, tokens)), seconds, time.time())
    result = {}
    for statistic in wanted:
        places = [place for place in same_as if kind_of(place) in statistic.at]
        own: dict[str, str] = {}  # the first to read a tensor, of those that are looked at
        for place in places:
            own.setdefault(same_as[place], place)
        result[statistic.name] = Summed(
            {place: totals[statistic.name, same_as[place]] for place in places},
            {place: rows[place] for place in places},
            {place: own[same_as[place]] for place in places},
            cost,
        )
    return result


def kind_of(place: str) -> str:
    """The kind of a place ``"{layer}.{kind}"``, or with a group between them."""
    return place.rpartition(".")[2]


_Seen = tuple[str, int, dict[str, torch.Tensor]]


class _Visitor(threading.local):
    """Counts each tensor once per statistic, however many sites read it."""

    def __init__(self, wanted: Mapping[Statistic, Counter]) -> None:
        self._wanted = wanted
        self._x: torch.Tensor | None = None
        self._seen: _Seen = ("", 0, {})

    def __call__(self, place: str, x: torch.Tensor) -> _Seen:
        """The first place that reads x, its number of rows, and statistics of it by name."""
        if self._x is not x:
            if not bool(torch.isfinite(x).all()):
                raise SparsityError(
                    f"the dense model's activations at site {place} contain NaN or infinity on "
                    "the calibration text; the weights are damaged or their dtype overflows: try "
                    "--sparsity-dtype float32"
                )
            self._x, self._seen = x, (place, len(x), {})
        counted = self._seen[2]
        for statistic, count in self._wanted.items():
            if kind_of(place) in statistic.at and statistic.name not in counted:
                counted[statistic.name] = count(place, x).cpu()
        return self._seen

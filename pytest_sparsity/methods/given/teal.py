"""TEAL's calibration: histograms of activations, and tables of levels from its greedy search.

``histograms/layer-{i}/{mlp,self_attn}/histograms.pt`` and ``lookup/layer-{i}/results.csv``.
Source: ``ActivationModule``, ``Distribution``, ``SparsifyFn`` and ``get_layer_greedy_sparsities``
in ``utils/utils.py``, ``teal/mlp.py``, ``teal/self_attn.py`` and ``teal/greedyopt.py`` of
FasterDecoding/TEAL.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.given.reading import (
    OPTION,
    candidates,
    checked,
    numbered,
    tensors,
    wrong,
)
from pytest_sparsity.settings.options import KINDS

#: Block of a layer, name of the histogram of an input, and who reads that input.
_INPUTS = (
    ("self_attn", "h1", ("q", "k", "v")),
    ("self_attn", "h2", ("o",)),
    ("mlp", "h1", ("gate", "up")),
    ("mlp", "h2", ("down",)),
)

_LAYER = re.compile(r"layer-(\d+)")

_EFFECTIVE = "Effective Sparsity"


@dataclass(frozen=True, eq=False)
class Histogram:
    """How the values of one input were distributed; half of them are taken to be negative.

    Attributes:
        path: of its file.
        name: ``h1`` or ``h2``.
        counts: float32 [bins]; the first and the last bin hold all outliers, 1 % each.
        centers: middle of each bin, float32 [bins], ascending.
    """

    path: Path
    name: str
    counts: torch.Tensor
    centers: torch.Tensor

    @cached_property
    def _cumulative(self) -> torch.Tensor:
        # In float32, as TEAL adds them: the thresholds are to be the same.
        return self.counts.cumsum(0)

    @cached_property
    def highest(self) -> float:
        """The level above which a threshold would lie among the outliers; about 0.98.

        They are one bin however far it reaches, so that nothing is known of them.
        """
        return float(2 * self._cumulative[-2] / self.counts.sum() - 1)

    def threshold(self, level: float) -> float:
        """The value up to which ``level`` of the values are in magnitude; 0 for level 0.

        The quantile of 0.5 + level / 2, linear between the middles of bins.

        Raises:
            ValueError: ``level`` is above ``highest``.
        """
        if level == 0:
            return 0.0
        if level > self.highest:
            raise ValueError(f"level {level:g} is above {self.highest:g}")
        wanted = (0.5 + level / 2) * self.counts.sum()
        cumulative = self._cumulative
        bin = int(torch.searchsorted(cumulative, wanted))
        if bin in (0, len(cumulative)):
            return max(0.0, float(self.centers[-1 if bin else 0]))
        below, above = cumulative[bin - 1], cumulative[bin]
        left, right = self.centers[bin - 1], self.centers[bin]
        # Negative where the middle of the values is: nothing is below it in magnitude.
        return max(0.0, float(left + (wanted - below) / (above - below) * (right - left)))


@dataclass(frozen=True)
class Row:
    """One step of TEAL's greedy search in one layer.

    Attributes:
        effective: what the layer loses of its weights, by TEAL's own table of their sizes, which
            counts k and v of Llama 2 as if its queries were grouped.
        levels: kind of a site to its level.  Of small k and v it can be above 1: steps grow with
            the inverse of the size.
    """

    effective: float
    levels: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class TealFiles:
    """What TEAL knows of a model.

    Attributes:
        histograms: name of a site, ``"{layer}.{kind}"``, to its input's histogram; of all layers
            and all ``KINDS``.
        tables: layer to the rows of its table, and the table's path; None if there are none.
    """

    histograms: Mapping[str, Histogram]
    tables: Mapping[int, tuple[Path, tuple[Row, ...]]] | None

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.histograms) // len(KINDS)

    def thresholds(self, level: float) -> dict[str, float]:
        """Site to the threshold with which it loses ``level`` of its activations.

        Raises:
            SparsityError: the histograms do not reach so far.
        """
        return self._thresholds(dict.fromkeys(self.histograms, level), level)

    def planned_thresholds(self, level: float) -> dict[str, float]:
        """Site to the threshold for its level in the tables, where blocks lose ``level``.

        Raises:
            SparsityError: there are no tables, or they or the histograms do not reach so far.
        """
        return self._thresholds(self.levels(level), level)

    def levels(self, level: float) -> dict[str, float]:
        """Site to its level in the row of its layer's table that is nearest to ``level``.

        Of two that are equally near the first.  Level 0, which has no row, is 0 everywhere.

        Raises:
            SparsityError: there are no tables, or they end before ``level``.
        """
        if self.tables is None:
            raise SparsityError(
                f"{OPTION} has TEAL's histograms and no lookup/layer-0/results.csv, which tells "
                "the levels of a block's sites; add the folder lookup of TEAL's greedy search"
            )
        found: dict[str, float] = {}
        for layer, (path, rows) in self.tables.items():
            row = min(rows, key=lambda row: abs(row.effective - level))
            most = max(row.effective for row in rows)
            if level > most + _longest_step(rows):
                raise wrong(
                    path,
                    f"ends at {_floor(most):g}, and level {level:g} is asked for",
                    "choose levels up to its end with --sparsity-levels",
                )
            found |= {f"{layer}.{kind}": row.levels[kind] if level else 0.0 for kind in KINDS}
        return found

    def _thresholds(self, levels: Mapping[str, float], asked: float) -> dict[str, float]:
        for site, level in levels.items():
            histogram = self.histograms[site]
            if level and level > histogram.highest:
                whose = "" if level == asked else f", its level where blocks lose {asked:g}"
                raise wrong(
                    histogram.path,
                    f"cannot tell the threshold of {site} for {level:g}{whose}: what is above "
                    f"{_floor(histogram.highest):g} is one bin of outliers",
                    "choose lower levels with --sparsity-levels",
                )
        return {site: self.histograms[site].threshold(level) for site, level in levels.items()}


def find(path: Path) -> tuple[dict[str, dict[int, Path]], dict[int, Path]]:
    """Files of histograms, by block and layer, and of tables, by layer; empty if there are none.

    ``path`` is the folder of a model, which has the folders ``histograms`` and ``lookup``, or one
    of these two, or one file.

    Raises:
        SparsityError: a layer has no file, or two.
    """
    histograms = {
        block: numbered(
            _of_layers(candidates(path, *_patterns("histograms", f"{block}/histograms.pt")), block),
            f"TEAL's histograms of {block}",
        )
        for block in ("self_attn", "mlp")
    }
    tables = _of_layers(candidates(path, *_patterns("lookup", "results.csv")), None)
    return histograms, numbered(tables, "TEAL's table")


def read_teal(
    histograms: Mapping[str, Mapping[int, Path]], tables: Mapping[int, Path]
) -> TealFiles:
    """What the files that :func:`find` found hold.

    Raises:
        SparsityError: they hold something else, or not all of them have as many layers.
    """
    counts = {f"histograms of {block}": files for block, files in histograms.items()}
    counts |= {"tables": tables} if tables else {}
    most, files = max(counts.items(), key=lambda item: len(item[1]))
    for name, others in counts.items():
        if len(others) != len(files):
            raise wrong(
                files[len(others)],
                f"stands alone: there are TEAL's {most} of {len(files)} layers and {name} of "
                f"{len(others)}",
                "put the missing files there: of each layer self_attn and mlp are needed",
            )
    by_input: dict[tuple[int, str, str], Histogram] = {
        (layer, block, name): histogram
        for block, found in histograms.items()
        for layer, file in found.items()
        for name, histogram in _read_histograms(file).items()
    }
    sites = {
        f"{layer}.{kind}": by_input[layer, block, name]
        for layer in files
        for block, name, kinds in _INPUTS
        for kind in kinds
    }
    rows = {layer: (file, _read_table(file)) for layer, file in tables.items()}
    return TealFiles(sites, rows or None)


def _read_histograms(path: Path) -> dict[str, Histogram]:
    """``h1`` and ``h2`` of one file, which may hold more: those of MLPs have an ``h1.5``."""
    names = ("h1", "h1_centers", "h2", "h2_centers")
    content = tensors(path, names, exactly=False)
    plain = {name: checked(path, name, content[name], axes=1).float() for name in names}
    found = {}
    for name in ("h1", "h2"):
        counts, centers = plain[name], plain[f"{name}_centers"]
        if problem := _problem(name, counts, centers):
            raise wrong(path, problem, "give a file that TEAL's grab_acts.py wrote")
        found[name] = Histogram(path, name, counts, centers)
    return found


def _problem(name: str, counts: torch.Tensor, centers: torch.Tensor) -> str:
    """What makes a histogram impossible; empty if nothing does."""
    if len(counts) != len(centers) or len(counts) < 3:
        return (
            f"has {len(counts)} counts in {name} and {len(centers)} centres, and as many of both, "
            "at least 3, are needed"
        )
    if bool((counts < 0).any()) or not float(counts.sum()) > 0:
        return f"has negative counts in {name}, or nothing but zeros"
    return f"has {name}_centers that do not ascend" if bool((centers.diff() < 0).any()) else ""


def _read_table(path: Path) -> tuple[Row, ...]:
    """The rows of one layer's table."""
    again = "copy the file again, or give one that TEAL's greedyopt.py wrote"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else "no table of text"
        raise wrong(path, f"cannot be read ({said})", again) from error
    columns = lines[0] if lines else []
    if missing := [name for name in (_EFFECTIVE, *KINDS) if name not in columns]:
        raise wrong(path, f"has no column {', '.join(missing)}", again)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            values = dict(zip(columns, map(float, line), strict=True))
        except ValueError as error:
            raise wrong(
                path,
                f"has {','.join(line)!r} in line {number}, and a number for every column is needed",
                again,
            ) from error
        levels = {kind: values[kind] for kind in KINDS}
        if not all(0 <= value < math.inf for value in (values[_EFFECTIVE], *levels.values())):
            raise wrong(path, f"has a level that is negative or no number in line {number}", again)
        rows.append(Row(values[_EFFECTIVE], levels))
    if not rows:
        raise wrong(path, "has no rows", again)
    return tuple(rows)


def _floor(level: float) -> float:
    """For a sentence: what is told to be possible is."""
    return math.floor(level * 1000) / 1000


def _longest_step(rows: Iterable[Row]) -> float:
    """How far neighbouring rows are apart at most, 0 counted as one."""
    return max(after - before for before, after in pairwise([0.0, *(r.effective for r in rows)]))


def _patterns(folder: str, rest: str) -> list[str]:
    return [f"{folder}/layer-*/{rest}", f"layer-*/{rest}"]


def _of_layers(files: Iterable[Path], block: str | None) -> list[tuple[int, Path]]:
    """Files with the number in the name of their folder, or of the one above that of a block."""
    found = []
    for file in files:
        name = "results.csv" if block is None else "histograms.pt"
        folder = file.parent if block is None else file.parent.parent
        layer = _LAYER.fullmatch(folder.name)
        if layer and file.name == name and block in (None, file.parent.name):
            found.append((int(layer[1]), file))
    return found

"""What was measured, one line of JSON per cell of a variant: small enough to be kept with the code.

A line has a number per document, item or prompt, in the order of the corpus or task, and of each
four hexadecimal digits of a hash of all that was measured on it (``marks``): where two variants
have the same, they are equal to the last bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_sparsity.core.files import atomic_write, sha256_text
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.settings.options import OFF
from pytest_sparsity.sweep.cell import GENERATION, PERPLEXITY, TASK
from pytest_sparsity.sweep.record import Record, is_right
from pytest_sparsity.sweep.store import FILE

_KINDS = (PERPLEXITY, TASK, GENERATION)
_MARK = 4  # hexadecimal digits


@dataclass(frozen=True)
class Values:
    """One cell of one variant.

    Attributes:
        variant: what was changed, see ``variants``.
        method: ``dense``, or the name of a method.
        level: of the method.
        evaluation: as of a cell.
        marks: four hexadecimal digits of every unit, one after the other.
        columns: of documents ``tokens``, ``nll`` (nats), and of sparse models ``kl`` (nats) and
            ``agreement`` (tokens); of items ``right`` (0 or 1); of prompts ``off`` (the share of
            tokens after the first one that is not the dense model's).
    """

    variant: str
    method: str
    level: float
    evaluation: str
    marks: str
    columns: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Names the cell and the variant."""
        return key_of(self.variant, self.method, self.level, self.evaluation)

    @property
    def units(self) -> int:
        """Documents, items or prompts."""
        return len(self.marks) // _MARK

    def mark(self, unit: int) -> str:
        """The digits of one unit."""
        return self.marks[_MARK * unit : _MARK * (unit + 1)]


def key_of(variant: str, method: str, level: float, evaluation: str) -> str:
    """Names one cell of one variant."""
    return f"{variant} {method}-{level:g} {evaluation}"


def of_record(variant: str, record: Record) -> Values:
    """The values of a record, rounded to seven digits."""
    units = record.units
    kind = record.cell.kind
    columns: dict[str, list[float]]
    if kind == PERPLEXITY:
        columns = {
            "tokens": [unit["tokens"] for unit in units],
            "nll": [_short(-math.fsum(unit["log_likelihoods"])) for unit in units],
        }
        if "kl" in units[0] and not record.cell.configuration.is_reference:
            columns["kl"] = [_short(unit["kl"]) for unit in units]
            columns["agreement"] = [unit["agreement"] for unit in units]
    elif kind == GENERATION:
        columns = {"off": [_short(_off_path(unit)) for unit in units]}
    else:
        columns = {"right": [int(is_right(record.measured, unit)) for unit in units]}
    configuration = record.cell.configuration
    marks = "".join(sha256_text(json.dumps(unit, sort_keys=True))[:_MARK] for unit in units)
    return Values(
        variant,
        configuration.method,
        configuration.level,
        record.cell.evaluation,
        marks,
        columns,
    )


def of_folder(variant: str, folder: Path, model: str) -> Iterator[Values]:
    """What the records of a report folder say of the configurations that are proven here."""
    longest: dict[str, Values] = {}
    for line in (folder / FILE).read_text().splitlines():
        record = Record.from_json(line)
        one = record.cell.configuration
        plain = one.model == model and one.weights == LOADED and one.spon == OFF
        if plain and one.method in ("dense", "teal") and record.cell.kind in _KINDS:
            found = of_record(variant, record)
            known = longest.get(found.key)
            if known is None or found.units > known.units:
                longest[found.key] = found
    yield from longest.values()


def read(path: Path) -> dict[str, Values]:
    """Everything in a file, by key; an incomplete last line is left out."""
    if not path.exists():
        return {}
    lines = path.read_text().splitlines(keepends=True)
    return by_key(Values(**json.loads(line)) for line in lines if line.endswith("\n"))


def by_key(found: Iterable[Values]) -> dict[str, Values]:
    """The same, by their keys."""
    return {values.key: values for values in found}


def add(path: Path, values: Values) -> None:
    """Append a line; one that a killed run left incomplete is replaced."""
    known = [*read(path).values(), values]
    lines = (json.dumps(asdict(one), separators=(",", ":")) for one in known)
    atomic_write(path, "".join(f"{line}\n" for line in lines))


def _off_path(prompt: Mapping[str, Any]) -> float:
    step = prompt["first_divergence"]
    return 0.0 if step is None else 1 - float(step) / float(prompt["tokens"])


def _short(value: float) -> float:
    return float(f"{value:.7g}")

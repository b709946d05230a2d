"""What one cell measured, as one self-contained line of JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_sparsity.core.files import sha256_text
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.sweep.cell import Cell, Configuration

SCHEMA = 1


class ForeignRecord(ValueError):
    """A line of JSON that is a record of another schema version, or no record at all."""


@dataclass(frozen=True)
class Record:
    """What one cell measured.

    Attributes:
        cell: what was measured.
        key: everything that makes two numbers comparable: hashes of weights, data,
            calibration and vectors, method parameters, prefill policy, dtype, seed,
            target, versions.
        measured: per-document or per-item values, see the modules in ``evaluation/``; with
            compressed weights also the ``provenance`` of those, as ``compression``; the
            ``first_tokens`` that were put before every text, if any; and how many documents
            were too short, as ``left_out``, if any.
        cost: ``seconds``, ``tokens`` and ``peak_bytes`` of the process.
        when: ISO time, UTC.
    """

    cell: Cell
    key: Mapping[str, Any]
    measured: Mapping[str, Any]
    cost: Mapping[str, float]
    when: str

    @property
    def id(self) -> str:
        """Identifies cell and key, 16 hex digits."""
        return record_id(self.cell, self.key)

    @property
    def units(self) -> list[dict[str, Any]]:
        """The documents, items or prompts."""
        (units,) = (
            self.measured[k] for k in ("documents", "items", "prompts") if k in self.measured
        )
        return list(units)

    def first(self, count: int) -> Record:
        """The same with its first ``count`` units alone: what it held at an earlier look."""
        name = next(k for k in ("documents", "items", "prompts") if k in self.measured)
        if len(self.measured[name]) <= count:
            return self
        return replace(self, measured={**self.measured, name: self.measured[name][:count]})

    def to_json(self) -> str:
        """One line, keys sorted."""
        configuration = self.cell.configuration
        content = {
            "schema": SCHEMA,
            "id": self.id,
            "cell": {
                "model": configuration.model,
                "method": configuration.method,
                "level": configuration.level,
                "spon": configuration.spon,
                "weights": configuration.weights,
                "evaluation": self.cell.evaluation,
            },
            "key": dict(self.key),
            "measured": dict(self.measured),
            "cost": dict(self.cost),
            "when": self.when,
        }
        return json.dumps(content, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read what :meth:`to_json` wrote.

        Raises:
            ForeignRecord: it is JSON, but of another schema version.
            ValueError: it is not a whole record.
        """
        content = json.loads(line, parse_constant=_no_number)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else None
            raise ForeignRecord(f"schema {found!r}, not {SCHEMA}")
        try:
            names = content["cell"]
            configuration = Configuration(
                names["model"],
                names["method"],
                names["level"],
                names["spon"],
                names.get("weights", LOADED),  # records of before weights were compressed
            )
            found = cls(
                Cell(configuration, names["evaluation"]),
                content["key"],
                content["measured"],
                content["cost"],
                content["when"],
            )
            if found.id != content["id"] or not found.units:
                raise ValueError("its id is not that of its cell and key, or it holds nothing")
            ids = [unit["id"] for unit in found.units]
            if len(set(ids)) < len(ids):
                (twice, times), *_ = Counter(ids).most_common(1)
                raise ValueError(f"unit {twice!r} is in it {times} times")
        except (KeyError, TypeError) as error:
            raise ValueError(f"incomplete record: {error}") from error
        return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def record_id(cell: Cell, key: Mapping[str, Any]) -> str:
    """Identifies a cell measured under ``key``: 16 hex digits."""
    return sha256_text(cell.id, json.dumps(dict(key), sort_keys=True))[:16]


def right_field(measured: Mapping[str, Any]) -> str:
    """The field that says whether an item of a task is right, by what is fixed for the task."""
    return "right" if measured["normalisation"] == "sum" else "right_normalised"


def is_right(measured: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Whether an item of a task counts as right."""
    return bool(item[right_field(measured)])

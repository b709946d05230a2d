"""Calibration results on disk: one folder per model, text and policy."""

from __future__ import annotations

import io
import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy
import torch

from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.methods.statistics import Cost, Statistic, Summed

_SCHEMA = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Quantile:
    """Thresholds of one level, by place, and what the pass took in which they were found."""

    thresholds: dict[str, float]
    cost: Cost


@dataclass(frozen=True)
class Store:
    """Reads and writes results; a file that is damaged is made again, with a warning.

    Attributes:
        folder: None keeps nothing.
        calibration: hash of the text, the policy and the model.
    """

    folder: Path | None
    calibration: str
    _in_memory: dict[str, Any] = field(default_factory=dict, repr=False)

    def sums(self, statistic: Statistic) -> Summed | None:
        """A statistic that was kept."""

        def read(path: Path) -> Summed:
            with numpy.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                head = json.loads(str(arrays["head"]))
                self._check(head, statistic.name, statistic.version)
                first = {place: torch.from_numpy(arrays[place]) for place in head["places"]}
            totals = {place: first[name] for place, name in head["same_as"].items()}
            return Summed(totals, head["rows"], head["same_as"], Cost(**head["cost"]))

        return self._read(f"{statistic.name}.npz", read)

    def keep_sums(self, statistic: Statistic, summed: Summed) -> None:
        """Write a statistic to its file.

        Raises:
            SparsityError: the file cannot be written.
        """
        if self.folder is None:
            return
        places = list(dict.fromkeys(summed.same_as.values()))
        head = {
            **self._head(statistic.name, statistic.version),
            "places": places,
            "same_as": dict(summed.same_as),
            "rows": dict(summed.rows),
            "cost": asdict(summed.cost),
        }
        stream = io.BytesIO()
        arrays: dict[str, Any] = {place: summed.totals[place].numpy() for place in places}
        numpy.savez_compressed(stream, head=numpy.array(json.dumps(head)), **arrays)
        atomic_write(self.folder / f"{statistic.name}.npz", stream.getvalue())

    def quantile(self, name: str, level: float, of: Summed) -> Quantile | None:
        """Thresholds that were kept, of the magnitudes that were counted in ``of``."""

        def read(path: Path) -> Quantile:
            content = json.loads(path.read_text(encoding="utf-8"))
            self._check(content, name, level)
            thresholds = {str(s): float(t) for s, t in content["thresholds"].items()}
            if thresholds.keys() != of.totals.keys():
                raise ValueError("other sites")
            if not all(math.isfinite(t) and t >= 0 for t in thresholds.values()):
                raise ValueError("not a magnitude")
            return Quantile(thresholds, Cost(**content["cost"]))

        return self._read(f"{name}-{level!r}.json", read)

    def keep_quantile(self, name: str, level: float, quantile: Quantile) -> None:
        """Write thresholds to their file.

        Raises:
            SparsityError: the file cannot be written.
        """
        self._write_json(f"{name}-{level!r}", {**self._head(name, level), **asdict(quantile)})

    def derived(self, name: str, variant: float, read: Callable[[Any], T]) -> T | None:
        """What a method derived from statistics: ``read`` makes it of the JSON that was kept.

        ``read`` raises ValueError, KeyError, TypeError or AttributeError for a damaged one.
        """

        def read_file(path: Path) -> T:
            content = json.loads(path.read_text(encoding="utf-8"))
            self._check(content, name, variant)
            return read(content["derived"])

        if name in self._in_memory:
            return read(self._in_memory[name])
        return self._read(f"{name}.json", read_file)

    def keep_derived(self, name: str, variant: float, content: Any) -> None:
        """Keep what a method derived, as JSON.

        Raises:
            SparsityError: the file cannot be written.
        """
        self._in_memory[name] = content
        self._write_json(name, {**self._head(name, variant), "derived": content})

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        if self.folder is not None:
            atomic_write(self.folder / f"{name}.json", json.dumps(content, indent=1))

    def _head(self, name: str, variant: float) -> dict[str, Any]:
        head = {"schema": _SCHEMA, "calibration": self.calibration}
        return {**head, "name": name, "variant": variant}

    def _check(self, content: dict[str, Any], name: str, variant: float) -> None:
        head = self._head(name, variant)
        if {key: content[key] for key in head} != head:
            raise ValueError("of another calibration")

    def _read(self, name: str, read: Callable[[Path], T]) -> T | None:
        if self.folder is None:
            return None
        path = self.folder / name
        try:
            return read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (
            *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError),
            *(zipfile.BadZipFile, zlib.error),
        ):
            warnings.warn(
                SparsityWarning(f"calibration {path} is damaged or of another version: made again"),
                stacklevel=2,
            )
            return None

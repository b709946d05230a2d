"""Calibration text and the statistics of one model on it, kept on disk between runs."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from pytest_sparsity.errors import SparsityWarning
from pytest_sparsity.files import atomic_write, sha256_text
from pytest_sparsity.methods.calibration import magnitude_quantiles
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.progress import Progress, silent

_SCHEMA = 1


@dataclass(eq=False)
class Calibrator:
    """What methods may ask about a dense model's activations on held-in text.

    Attributes:
        model: the dense model.
        tokens: calibration documents, int64 [T] each.
        prefill: rows that it keeps dense do not count.
        cache: folder for results; None keeps them in memory only.
        progress: told about passes over the text.
    """

    model: LanguageModel
    tokens: Sequence[torch.Tensor]
    prefill: PrefillPolicy
    cache: Path | None = None
    progress: Progress = silent
    _known: dict[float, dict[str, float]] = field(default_factory=dict, repr=False)

    @cached_property
    def hash(self) -> str:
        """Identifies the text, the policy and the model: 16 hex digits."""
        tokens = ";".join(",".join(map(str, t.tolist())) for t in self.tokens)
        return sha256_text(
            tokens, self.prefill.name, self.model.weights_hash, str(self.model.dtype)
        )[:16]

    def quantiles(self, level: float) -> dict[str, float]:
        """Site to the exact ``level`` quantile of its |x|, see :func:`magnitude_quantiles`."""
        self.prepare([level])
        return self._known[level]

    def prepare(self, levels: Iterable[float]) -> None:
        """Find the quantiles of several levels in one pass over the text."""
        wanted = [level for level in levels if level not in self._known]
        for level in wanted:
            if (found := self._read(level)) is not None:
                self._known[level] = found
        missing = [level for level in wanted if level not in self._known]
        if not missing:
            return
        measured = magnitude_quantiles(
            self.model, self.tokens, missing, self.prefill, self.progress
        )
        self._known.update(measured)
        for level, thresholds in measured.items():
            if (path := self._path(level)) is not None:
                content = {
                    "schema": _SCHEMA,
                    "calibration": self.hash,
                    "level": level,
                    "thresholds": thresholds,
                }
                atomic_write(path, json.dumps(content, indent=1))

    def _path(self, level: float) -> Path | None:
        if self.cache is None:
            return None
        return self.cache / "calibrations" / f"{self.model.name}-{self.hash}-{level!r}.json"

    def _read(self, level: float) -> dict[str, float] | None:
        path = self._path(level)
        if path is None:
            return None
        try:
            content = json.loads(path.read_text())
            thresholds = {str(s): float(t) for s, t in content["thresholds"].items()}
            if (
                (content["schema"], content["calibration"], content["level"])
                == (_SCHEMA, self.hash, level)
                and thresholds.keys() == {site.name for site in self.model.sites}
                and all(math.isfinite(t) and t >= 0 for t in thresholds.values())
            ):
                return thresholds
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        warnings.warn(
            SparsityWarning(f"calibration {path} is damaged or of another version: made again"),
            stacklevel=2,
        )
        return None

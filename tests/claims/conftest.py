"""Evidence made by hand: losses per configuration and corpus, with as much noise as asked."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.methods.spon.library import MissingVectors
from pytest_sparsity.settings.settings import Settings, default_settings
from pytest_sparsity.sweep.cell import Cell, Configuration
from pytest_sparsity.sweep.record import Record
from pytest_sparsity.sweep.session import SweepSession

MODEL = "m"
TOKENS = 10
#: Increase of log-perplexity over the dense model, of all corpora or by corpus.
Damage = float | Mapping[str, float]


@dataclass
class Made:
    """A session whose records follow from numbers.

    Attributes:
        damage: by configuration; without one, there are no vectors for it.
        noise: standard deviation, between documents, of the damage.
        settings: of the run.
        changes: of what a cell measured, by its id.
        measured: every cell that was, in order.
    """

    damage: Mapping[Configuration, Damage]
    noise: float = 0.0005
    settings: Settings = field(default_factory=lambda: replace(default_settings(), profile="smoke"))
    changes: dict[str, Callable[[dict[str, Any]], object]] = field(default_factory=dict)
    measured: list[Cell] = field(default_factory=list)

    def __post_init__(self) -> None:
        loaded = SimpleNamespace(dtype=torch.bfloat16)
        self.models = SimpleNamespace(load=lambda _: loaded)
        self.plans = SimpleNamespace(vectors=self._vectors)

    def _vectors(self, configuration: Configuration) -> None:
        if configuration not in self.damage:
            raise MissingVectors(f"no trained spontaneous vectors fit {configuration.id}")

    def record(self, cell: Cell, *, wait: bool = True) -> Record:
        configuration = cell.configuration
        self._vectors(configuration)
        self.measured.append(cell)
        given = self.damage[configuration]
        mean = given if isinstance(given, (int, float)) else given[cell.subject]
        count = self.settings.sizes.documents
        base = np.random.default_rng(zlib.crc32(cell.subject.encode())).normal(3, 0.5, count)
        own = np.random.default_rng(zlib.crc32(cell.id.encode())).normal(0, 1, count)
        own = (own - own.mean()) / own.std()  # so that the estimate is what was asked for
        measured: dict[str, Any] = {
            "documents": [
                {"id": f"d{n}", "tokens": TOKENS, "log_likelihoods": [-x] * TOKENS, "kl": 0.1}
                for n, x in enumerate(base + mean + self.noise * own)
            ]
        }
        if configuration.method != "dense":
            measured["achieved"] = {"weighted": configuration.level}
            measured["preparation"] = {"calibration": {"tokens": 8, "seconds": 1.0}}
        if configuration.weights != "loaded":
            measured["compression"] = {"bits": 8.0}
        if cell.id in self.changes:
            self.changes[cell.id](measured)
        return Record(cell, {}, measured, {"seconds": 1.0, "tokens": 120}, "2026-01-01")


@pytest.fixture
def evidence() -> Callable[..., Evidence]:
    """Evidence from the arguments of :class:`Made`."""

    def make(
        damage: Mapping[Configuration, Damage], noise: float = 0.0005, **more: Any
    ) -> Evidence:
        stopwatch = more.pop("stopwatch", None)
        session = cast(SweepSession, Made(damage, noise, **more))
        return Evidence(session, MODEL, stopwatch)

    return make

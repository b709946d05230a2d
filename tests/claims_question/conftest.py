"""A model whose damage is known: records made by hand for the parts of the question."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pytest_sparsity.claims import question_neurons
from pytest_sparsity.claims.claim import Claim, investigate
from pytest_sparsity.claims.evidence import Evidence
from pytest_sparsity.claims.finding import Finding
from pytest_sparsity.evaluation.tasks import TASKS
from pytest_sparsity.methods.neurons.quality import SelectionQuality
from pytest_sparsity.methods.neurons.report import CURVE, NeuronReport, Skew, Stability
from pytest_sparsity.settings.settings import default_settings
from pytest_sparsity.sweep.cell import (
    ANSWER_LIKELIHOOD,
    DIVERGENCE,
    GENERATION,
    PERPLEXITY,
    Cell,
)
from pytest_sparsity.sweep.record import Record

#: Nats per token that a method costs at level 0.5; less at lower levels.
HARM = {
    "dense": 0.0,
    "teal": 0.5,
    "contribution": 0.05,
    "powerinfer": 0.5,
    "deja_vu": 0.6,
    "hot_only": 2.0,
    "random_neurons": 4.0,
    "cold_only": 8.0,
}
NEURONS = ("contribution", "powerinfer", "deja_vu", "hot_only", "random_neurons", "cold_only")


@dataclass
class World:
    """Makes the record of any cell.

    Attributes:
        report: folder.
        profile: of the settings.
        model: its name.
        harm: nats per token by method.
        weight: how much of the share that text loses the tasks of a family lose.
        dense: accuracy of the dense model, by family; of choices with chance 0.25.
        chain: KL on chains of thought over KL on prose.
    """

    report: Path
    profile: str = "quick"
    model: str = "m"
    seed: int = 0
    harm: dict[str, float] = field(default_factory=lambda: dict(HARM))
    weight: dict[str, float] = field(
        default_factory=lambda: {"reasoning": 1.5, "knowledge": 0.5, "language": 0.5}
    )
    dense: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("reasoning", "knowledge", "language"), 0.85)
    )
    chain: float = 2.0
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = replace(
            default_settings(),
            models=(self.model,),
            profile=self.profile,
            report=self.report,
            seed=self.seed,
        )
        self.target = SimpleNamespace(name="machine", cores=2, fingerprint="cpu-1")
        self.models = SimpleNamespace(
            load=lambda name: SimpleNamespace(weights_hash="w" * 64, dtype="torch.bfloat16")
        )
        self.calibrations = SimpleNamespace(prefill=SimpleNamespace(name="first:1"))
        self.texts = SimpleNamespace(
            calibration_corpus=SimpleNamespace(name="c", split="calibration", hash="h-c"),
            evaluation_corpus=lambda name: SimpleNamespace(
                name=name, split="evaluation", hash=f"h-{name}"
            ),
            task=lambda name: SimpleNamespace(name=name, licence="free", hash=f"{name:0<20}"),
            first_corpus=SimpleNamespace(documents=[None] * 144),
            available=lambda cell: 144 if cell.kind == PERPLEXITY else 300,
            sources=lambda: {"austen (evaluation)": "public domain; 1234"},
        )

    def finding(self, claim: Claim) -> Finding:
        """What a claim comes to here."""
        return investigate(claim, self.evidence())

    def evidence(self) -> Evidence:
        """Of this world."""
        return Evidence(cast(Any, self), self.model)

    def record(self, cell: Cell, *, wait: bool = True) -> Record:
        """As a session would measure it."""
        self.made.append(cell.id)
        rng = np.random.default_rng(zlib.crc32(cell.evaluation.encode()))  # the same items
        own = np.random.default_rng(zlib.crc32(cell.id.encode()))
        measured = self._measured(cell, rng, own)
        if cell.configuration.method != "dense":
            measured["preparation"] = {"calibration": {"tokens": 8192, "seconds": 5.0}}
        cost = {"seconds": 1.0, "tokens": 10, "peak_bytes": 1}
        return Record(cell, {"seed": 0}, measured, cost, "2026-01-01T00:00:00+00:00")

    def _nats(self, cell: Cell) -> float:
        configuration = cell.configuration
        return self.harm[configuration.method.partition(":")[0]] * (configuration.level / 0.5) ** 3

    def _measured(self, cell: Cell, rng: Any, own: Any) -> dict[str, Any]:
        sizes, nats = self.settings.sizes, self._nats(cell)
        if cell.kind == PERPLEXITY:
            documents = []
            for number in range(sizes.documents):
                base, harm = rng.gamma(30, 0.1), nats * own.gamma(50, 0.02)
                documents.append(
                    {
                        "id": f"d{number}",
                        "tokens": 10,
                        "log_likelihoods": [-(base + harm)] * 10,
                        "kl": 9.0 * harm,
                        "agreement": 5,
                    }
                )
            level = cell.configuration.level
            base = cell.configuration.method.partition(":")[0]
            weighted = 0.75 * level if base in NEURONS else level
            return {"documents": documents, "achieved": {"weighted": weighted}}
        if cell.kind == GENERATION:
            step = None if nats == 0 else max(0, int(6 - 10 * nats))
            prompts = [
                {"id": f"p{n}", "tokens": 32, "first_divergence": step}
                for n in range(sizes.prompts)
            ]
            return {"prompts": prompts}
        if cell.kind == DIVERGENCE:
            items = []
            for number in range(sizes.items):
                prose = 5 * nats * rng.gamma(50, 0.02)
                chain = prose * self.chain * own.gamma(50, 0.02)
                parts = {"reasoning": {"kl": chain}, "prose": {"kl": prose}}
                items.append({"id": f"i{number}", "tokens": 5, **parts})
            return {"items": items}
        family = TASKS[cell.subject].family
        draws = rng.random((2, sizes.items))
        right = draws[0] < self.dense[family]
        lost = self.weight[family] * (1 - np.exp(-nats)) * (1 - 0.25 / self.dense[family])
        kept = right & (draws[1] >= lost)
        marks = {"normalisation": "sum", "chance": 0.25, "family": family}
        items = [
            {
                "id": f"i{number}",
                "right": bool(mark),
                "answer": -1.0 - nats * (1 + 0.1 * own.random()),
                "answer_tokens": 2,
            }
            for number, mark in enumerate(kept)
        ]
        return {"items": items, **({} if cell.kind == ANSWER_LIKELIHOOD else marks)}


def _skew(hot: int) -> Skew:
    return Skew(100, 0.3, hot, tuple(share**0.7 for share in CURVE))


@pytest.fixture
def neuron_report() -> Callable[..., NeuronReport]:
    """Makes a report on a model's neurons."""

    def make(model: str = "m", corpus: str = "austen", **changes: Any) -> NeuronReport:
        found = NeuronReport(
            model=model,
            weights="w" * 64,
            dtype="bfloat16",
            corpus=f"{corpus} (evaluation)",
            corpus_hash=f"h-{corpus}",
            prefill="first:1",
            tail=0.04,
            tokens=1000,
            model_wide=_skew(60),
            layers=(_skew(40), _skew(70)),
            truncation_error=(0.1, 0.2),
            cost={"tokens": 1000, "seconds": 1.0},
            stability=Stability("c", (0.8, 0.9), 0.85, (0.9, 0.9), 0.95),
            quality=(SelectionQuality("powerinfer", 0.5, (0.6, 0.7), (0.6, 0.7), (0.3, 0.3), 9),),
            predictor={"tokens": 8192, "seconds": 9.0, "size": 100},
        )
        return replace(found, **changes)

    return make


@pytest.fixture
def made_reports(
    monkeypatch: pytest.MonkeyPatch, neuron_report: Callable[..., NeuronReport]
) -> list[str]:
    """Stands in for counting neurons; holds the models it was asked about."""
    asked: list[str] = []

    def make(session: Any, model: str, level: float, documents: int) -> list[NeuronReport]:
        asked.append(model)
        return [neuron_report(model, corpus) for corpus in ("c", "austen", "factbook")]

    monkeypatch.setattr(question_neurons, "neuron_reports", make)
    return asked


@pytest.fixture
def world(tmp_path: Path, made_reports: list[str]) -> Callable[..., World]:
    """Makes worlds whose report folder is the test's own."""

    def make(**changes: Any) -> World:
        return World(**{"report": tmp_path / "report", **changes})

    return make

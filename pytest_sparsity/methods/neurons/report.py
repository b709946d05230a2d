"""What is known of a model's hot and cold neurons on one corpus, as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.files import atomic_write
from pytest_sparsity.methods.neurons.activity import ActivationCounts, tail_of
from pytest_sparsity.methods.neurons.hot_set import (
    curve,
    hot_count,
    rank_correlation,
    top_overlap,
)
from pytest_sparsity.methods.neurons.quality import SelectionQuality
from pytest_sparsity.methods.prefill import PrefillPolicy
from pytest_sparsity.models import LanguageModel

SCHEMA = 1

#: Shares of neurons at which the power-law curve is drawn.
CURVE = (0.0, 0.01, 0.02, 0.05, *(round(0.1 * n, 1) for n in range(1, 11)))

#: Share of the neurons whose overlap between two corpora is reported, as in PowerInfer.
TOP = 0.2

FILE = "neurons.jsonl"


@dataclass(frozen=True)
class Skew:
    """How unevenly activations are spread over neurons.

    Attributes:
        neurons: how many there are.
        active_share: mean share of them that is active on a token.
        hot: how many account for 80 % of all activations.
        curve: share of activations that the most active ``CURVE`` of the neurons hold.
    """

    neurons: int
    active_share: float
    hot: int
    curve: tuple[float, ...]

    @property
    def hot_share(self) -> float:
        """Share of the neurons that is hot."""
        return self.hot / self.neurons

    @classmethod
    def of(cls, counts: torch.Tensor, tokens: int) -> Skew:
        """The skew of int64 [I] counts over ``tokens`` positions."""
        share = int(counts.sum()) / (tokens * len(counts))
        return cls(len(counts), share, hot_count(counts), curve(counts, CURVE))


@dataclass(frozen=True)
class Stability:
    """How much of the hot set of one corpus is hot on another.

    Attributes:
        corpus: the other one.
        overlap: of the top ``TOP`` of the neurons, per layer; ``TOP`` is expected by chance.
        overlap_model: the same over all neurons of the model.
        correlation: Spearman's, of the frequencies, per layer; None where all are equal.
        correlation_model: the same over all neurons of the model.
    """

    corpus: str
    overlap: tuple[float, ...]
    overlap_model: float
    correlation: tuple[float | None, ...]
    correlation_model: float | None

    @classmethod
    def between(cls, one: ActivationCounts, other: ActivationCounts, corpus: str) -> Stability:
        """Compare two corpora; ``corpus`` names the second."""
        pairs = [(one.counts[n], other.counts[n]) for n in one.counts]
        return cls(
            corpus=corpus,
            overlap=tuple(top_overlap(a, b, TOP) for a, b in pairs),
            overlap_model=top_overlap(one.whole, other.whole, TOP),
            correlation=tuple(rank_correlation(a, b) for a, b in pairs),
            correlation_model=rank_correlation(one.whole, other.whole),
        )


@dataclass(frozen=True)
class NeuronReport:
    """The neurons of one model on one corpus.

    Attributes:
        model: short name.
        weights: hash of its weights.
        dtype: of its weights.
        corpus: name and split, for example ``"austen (evaluation)"``.
        corpus_hash: hash of its documents.
        prefill: policy; positions that it keeps dense do not count.
        tail: what an active neuron is, see :func:`~.activity.active`.
        tokens: positions counted.
        model_wide: over all neurons of the model.
        layers: per layer, in natural order.
        truncation_error: per layer, mean error of the block's output if inactive neurons are
            left out; 0 after ReLU.
        cost: ``tokens`` and ``seconds`` of counting.
        stability: against the calibration text; None for that text itself.
        quality: which neurons methods keep; empty if none was asked for.
        predictor: provenance of the trained predictors, and their ``size`` in weights.
    """

    model: str
    weights: str
    dtype: str
    corpus: str
    corpus_hash: str
    prefill: str
    tail: float
    tokens: int
    model_wide: Skew
    layers: tuple[Skew, ...]
    truncation_error: tuple[float, ...]
    cost: dict[str, float]
    stability: Stability | None = None
    quality: tuple[SelectionQuality, ...] = ()
    predictor: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What one report replaces another of."""
        return self.model, self.weights, self.dtype, self.corpus, self.prefill

    def to_json(self) -> str:
        """One line, keys sorted."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> NeuronReport:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: it is no whole report of this version.
        """
        content = json.loads(line)
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
            raise ValueError(f"not a report of neurons of schema {SCHEMA}")
        try:
            stability = content.pop("stability")
            return cls(
                model_wide=_read(Skew, content.pop("model_wide")),
                layers=tuple(_read(Skew, layer) for layer in content.pop("layers")),
                truncation_error=tuple(content.pop("truncation_error")),
                stability=None if stability is None else _read(Stability, stability),
                quality=tuple(_read(SelectionQuality, q) for q in content.pop("quality")),
                **content,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"incomplete report of neurons: {error}") from error


def _read(kind: Any, content: dict[str, Any]) -> Any:
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


def neuron_report(
    model: LanguageModel,
    corpus: str,
    corpus_hash: str,
    prefill: PrefillPolicy,
    found: ActivationCounts,
    stability: Stability | None = None,
    quality: Iterable[SelectionQuality] = (),
    predictor: dict[str, Any] | None = None,
) -> NeuronReport:
    """Put together what was found; see :class:`NeuronReport`."""
    return NeuronReport(
        model=model.name,
        weights=model.weights_hash,
        dtype=str(model.dtype).removeprefix("torch."),
        corpus=corpus,
        corpus_hash=corpus_hash,
        prefill=prefill.name,
        tail=tail_of(model),
        tokens=found.tokens,
        model_wide=Skew.of(found.whole, found.tokens),
        layers=tuple(Skew.of(counts, found.tokens) for counts in found.counts.values()),
        truncation_error=found.truncation_error,
        stability=stability,
        quality=tuple(quality),
        predictor=predictor,
        cost={"tokens": found.cost.tokens, "seconds": found.cost.seconds},
    )


def read_reports(path: Path) -> list[NeuronReport]:
    """The reports in a file; none if there is no file.

    Raises:
        SparsityError: a line is no report of this version.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [NeuronReport.from_json(line) for line in lines if line.strip()]
    except ValueError as error:
        raise SparsityError(
            f"{path} cannot be read ({error}); delete it, and it is made again"
        ) from error


def write_reports(path: Path, reports: Iterable[NeuronReport]) -> None:
    """Put reports into a file, one per line, in place of those of the same model and corpus.

    Raises:
        SparsityError: the file is damaged or cannot be written.
    """
    kept = {report.key: report for report in (*read_reports(path), *reports)}
    atomic_write(path, "".join(f"{report.to_json()}\n" for report in kept.values()))

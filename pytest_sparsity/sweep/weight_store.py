"""Models whose weights are compressed; of these only one is kept."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_sparsity.core.errors import blaming
from pytest_sparsity.core.progress import Progress
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.compression.compress import (
    Compressed,
    compress,
    compressed_dtype,
    compressed_hash,
)
from pytest_sparsity.models.compression.names import LOADED
from pytest_sparsity.sweep.model_store import ModelStore
from pytest_sparsity.sweep.text_store import TextStore


@dataclass(frozen=True, eq=False)
class WeightStore:
    """Compresses the weights of models.

    Attributes:
        models: as they were loaded.
        texts: some compressions are calibrated on text.
        cache: folder that compressed weights are kept in.
        progress: shows compressing.
    """

    models: ModelStore
    texts: TextStore
    cache: Path
    progress: Progress

    def model(self, model: str, weights: str = LOADED) -> LanguageModel:
        """The dense model with this short name, its weights compressed as ``weights`` says.

        Raises:
            SparsityError: they cannot be.
        """
        if weights == LOADED:
            return self.models.load(model)
        return self.compressed(model, weights).model

    # One at a time: each is as large as the model, and cells come in the order of their weights.
    @functools.lru_cache(maxsize=1)  # noqa: B019
    def compressed(self, model: str, weights: str) -> Compressed:
        """A model with its weights compressed, and what that took.

        Raises:
            SparsityError: they cannot be.
        """
        with blaming("--sparsity-weights"):
            tokens = self.texts.calibration_tokens(model)
            loaded = self.models.load(model)
            return compress(loaded, weights, tokens, self.cache, self.progress)

    @functools.cache  # noqa: B019
    def named(self, model: str, weights: str) -> LanguageModel:
        """The model as it was loaded, with the hash and the dtype of its compressed weights.

        It identifies the compressed model, and nothing is compressed for that: a summary asks
        this of every cell.
        """
        loaded, tokens = self.models.load(model), self.texts.calibration_tokens(model)
        return replace(
            loaded,
            weights_hash=compressed_hash(loaded, weights, tokens),
            dtype=compressed_dtype(loaded, weights),
        )

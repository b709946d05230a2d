"""A footprint is the child's own, whatever the process that asks for it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.memory import can_measure_memory
from pytest_sparsity.evaluation.perplexity import Window
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.speed.footprint import scoring_footprint, weight_bytes

pytestmark = pytest.mark.skipif(
    not can_measure_memory(), reason="resident memory is read under Linux"
)

MIB = 1 << 20


def test_weights_count_tied_parameters_once(tiny: Any) -> None:
    config = tiny.model.config
    embedding, block = config.vocab_size * 64, 64 * (64 + 32 + 32 + 64) + 3 * 64 * 160 + 2 * 64
    assert config.tie_word_embeddings
    assert weight_bytes(tiny) == 4 * (embedding + 3 * block + 64)


@pytest.mark.slow
def test_footprint_is_of_the_fresh_process(tiny: Any, tmp_path: Path) -> None:
    plan = Plan("threshold", 0.5, {site.name: Threshold(0.5) for site in tiny.sites})
    documents = [Window(str(n), torch.arange(64)) for n in range(4)]
    ballast = bytearray(b"x") * (600 * MIB)  # what getrusage would pass on to the child
    found = scoring_footprint(tiny, plan, documents, tmp_path)
    del ballast
    assert found.before <= found.loaded <= found.peak
    assert found.peak - found.before < 100 * MIB


@pytest.mark.slow
def test_model_that_is_gone(tiny: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    gone = replace(tiny, source=str(tmp_path / "gone"))
    with pytest.raises(SparsityError, match="gone"):
        scoring_footprint(gone, Plan("dense", 0.0, {}), [], tmp_path)

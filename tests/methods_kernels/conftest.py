"""What the tests of kernels in models share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from neuron_plans import Calls


@pytest.fixture
def tiny() -> Any:
    """One of its own: hooks that other tests leave on theirs keep an MLP from kernels."""
    from pytest_sparsity.models import load_model

    return load_model("tiny-random", dtype="float32")


@pytest.fixture
def calls(own_kernels: None, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A kernel of MLPs called ``watched`` is registered while the test runs."""
    from neuron_plans import Calls

    from pytest_sparsity.kernels import registry
    from pytest_sparsity.kernels.torch.hot_cold_mlp import hot_cold_mlp
    from pytest_sparsity.methods import neuron_trial

    seen = Calls()
    monkeypatch.setattr(neuron_trial, "_TRIED", {})

    @registry.sparse_kernel(op="hot_cold_mlp", backend="watched", intermediate="operand")
    def watched(x: Any, down: Any, hot: int, cold: Any, **others: Any) -> Any:
        assert down.stride(0) == 1
        assert hot == 0
        seen.append((x.shape[0], len(cold)))
        return hot_cold_mlp(x=x, down=down, hot=hot, cold=cold, **others)

    return seen

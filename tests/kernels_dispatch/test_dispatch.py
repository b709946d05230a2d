"""The rule that chooses between sparse and dense is monotone and knows what was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_sparsity.kernels import dispatch
from pytest_sparsity.kernels.dispatch import DENSE, CostModel, Table, best_kernel, sparse_rows
from pytest_sparsity.kernels.registry import kernel

costs = st.builds(
    CostModel,
    t0=st.floats(0, 1e-4),
    bandwidth=st.floats(1e9, 1e12),
    row_bandwidth=st.floats(1e9, 1e13),
)
shapes = st.tuples(st.integers(1, 20000), st.lists(st.integers(1, 20000), min_size=1, max_size=3))


def table(dense: CostModel, sparse: CostModel) -> Table:
    return {DENSE: {"bfloat16": dense}, "cpu": {"bfloat16": sparse}}


@given(costs, costs, shapes, st.floats(0, 1), st.floats(0, 1))
def test_more_sparsity_never_makes_it_dense(
    dense: CostModel, sparse: CostModel, shape: tuple[int, list[int]], a: float, b: float
) -> None:
    fewer, more = sorted((a, b))
    k, outputs = shape
    known = table(dense, sparse)
    rows = [
        sparse_rows(
            known,
            "cpu",
            "bfloat16",
            k,
            outputs,
            x,
        )
        for x in (fewer, more)
    ]
    assert rows[0] >= rows[1]


@given(costs, costs, shapes, st.floats(0.01, 1))
def test_it_wins_for_every_number_of_rows_up_to_the_one_named(
    dense: CostModel, sparse: CostModel, shape: tuple[int, list[int]], active: float
) -> None:
    k, outputs = shape
    most = sparse_rows(table(dense, sparse), "cpu", "bfloat16", k, outputs, active)
    total = 2 * k * sum(outputs)

    def wins(rows: int) -> bool:
        apart = sum(dense.seconds(2 * k * n, rows) for n in outputs)
        return dispatch.MARGIN * sparse.seconds(total, rows, active) < apart

    assert all(wins(rows) for rows in range(1, most + 1))
    assert most == 8 or not wins(most + 1)


def test_time_of_a_call() -> None:
    cost = CostModel(t0=1e-6, bandwidth=1e9, row_bandwidth=2e9)
    assert cost.seconds(1000, 1) == pytest.approx(1e-6 + 1e-6)
    assert cost.seconds(1000, 3) == pytest.approx(1e-6 + 1e-6 + 1e-6)
    # Two rows that keep half each read three quarters, and pass over half once more.
    assert cost.seconds(1000, 2, 0.5) == pytest.approx(1e-6 + 0.75e-6 + 0.25e-6)


def test_what_was_not_measured_is_dense() -> None:
    known = table(CostModel(1, 1, 1), CostModel(0, 1e9, 1e9))
    assert sparse_rows(known, "cpu", "bfloat16", 64, [64], 0.5) == 8
    assert sparse_rows(known, "cpu", "float32", 64, [64], 0.5) == 0
    assert sparse_rows(known, "native", "bfloat16", 64, [64], 0.5) == 0
    assert sparse_rows({}, "cpu", "bfloat16", 64, [64], 0.5) == 0
    assert best_kernel({}, ["cpu"], "bfloat16", 64, [64], 0.5) is None


def test_the_fastest_kernel_is_taken() -> None:
    slow, fast, dense = CostModel(0, 1e9, 1e9), CostModel(0, 2e9, 1e8), CostModel(0, 1e9, 1e12)
    known = {
        DENSE: {"bfloat16": dense},
        "slow": {"bfloat16": slow},
        "fast": {"bfloat16": fast},
    }
    assert best_kernel(known, ["slow", "fast"], "bfloat16", 64, [64], 0.5) == ("fast", 1)
    assert best_kernel(known, ["slow"], "bfloat16", 64, [64], 0.5) == ("slow", 1)
    assert best_kernel(known, [], "bfloat16", 64, [64], 0.5) is None


def test_joined_layers_save_calls() -> None:
    same = table(CostModel(1e-5, 1e12, 1e12), CostModel(1e-5, 1e12, 1e12))
    assert sparse_rows(same, "cpu", "bfloat16", 64, [64], 1.0) == 0
    assert sparse_rows(same, "cpu", "bfloat16", 64, [64, 64], 1.0) > 0


# --- the shipped constants

SHIPPED = json.loads(Path(dispatch.__file__).with_name("dispatch.json").read_text())


def test_constants_say_where_they_are_from() -> None:
    for device, found in SHIPPED["devices"].items():
        assert device in ("cpu", "cuda")
        assert {"machine", "date", "command", "versions", "noise"} < found.keys()
        for name, by_dtype in dispatch.measured(device).items():
            assert name == DENSE or kernel(f"sparse_linear/{name}").skips
            for cost in by_dtype.values():
                assert cost.t0 >= 0
                assert 1e9 < cost.bandwidth < math.inf


def choice(k: int, n: list[int], level: float, dtype: str = "bfloat16") -> int:
    """Up to how many rows the best kernel of a CPU wins; 0 for dense."""
    known = dispatch.measured("cpu")
    found = best_kernel(known, [name for name in known if name != DENSE], dtype, k, n, 1 - level)
    return found[1] if found else 0


def test_a_large_layer_at_half_is_sparse_for_one_row_and_dense_for_four() -> None:
    # Measured: 3.2, 1.6, 0.99 and 0.79 times the speed of dense with 1, 2, 4 and 8 rows.
    assert 1 <= choice(4096, [4096], 0.5) < 4


def test_higher_levels_take_more_rows() -> None:
    rows = [choice(4096, [4096], level) for level in (0.25, 0.5, 0.75, 0.9)]
    assert rows == sorted(rows)
    assert rows[-1] > rows[0]


def test_the_layers_of_a_small_model_are_sparse_at_half() -> None:
    assert choice(576, [1536, 1536], 0.5) >= 1
    assert choice(1536, [576], 0.5) >= 1


def test_float32_layers_too_small_to_matter_are_dense() -> None:
    assert choice(16, [16], 0.5, "float32") == 0


def test_dense_level() -> None:
    assert choice(4096, [4096], 0.0, "float32") <= choice(4096, [4096], 0.5, "float32")

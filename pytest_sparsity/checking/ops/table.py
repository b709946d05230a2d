"""Adds the records of our ops; the only list of them outside ``reference``."""

from pytest_sparsity.checking.ops import (
    compact,
    hot_cold_mlp,
    semi_structured_linear,
    sparse_linear,
    sparse_linear_indexed,
    sparse_qkv,
    sparse_quantized_linear,
    sparse_swiglu,
)
from pytest_sparsity.checking.record import add_record

for _module in (
    sparse_linear,
    sparse_linear_indexed,
    sparse_qkv,
    sparse_swiglu,
    hot_cold_mlp,
    sparse_quantized_linear,
    semi_structured_linear,
    compact,
):
    add_record(_module.RECORD)

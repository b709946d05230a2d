"""Our ops' records: the only list of them outside ``reference``."""

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

OURS = (
    sparse_linear.RECORD,
    sparse_linear_indexed.RECORD,
    sparse_qkv.RECORD,
    sparse_swiglu.RECORD,
    hot_cold_mlp.RECORD,
    sparse_quantized_linear.RECORD,
    semi_structured_linear.RECORD,
    compact.RECORD,
)

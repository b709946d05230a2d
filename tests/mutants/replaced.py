"""Sources that several mutants replace, and declarations that several share."""

from __future__ import annotations

LINEAR = "torch/sparse_linear.py"
#: All that the composition of ``sparse_linear`` does.
PRODUCT = "    return functional.linear(sparsify_activations(x, threshold), weight, bias)\n"
#: Its masked activations.
KEPT = "sparsify_activations(x, threshold)"

INDEXED = "torch/sparse_linear_indexed.py"
#: All that the composition of ``sparse_linear_indexed`` does.
LISTED_PRODUCT = (
    "    return functional.linear"
    "(x.index_select(1, indices), weight.index_select(1, indices), bias)\n"
)

#: Every dtype is compiled by itself.
SINGLE = {"dtypes": ("float32",)}

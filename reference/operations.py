"""What torch's operations are to rounding: which are exact, rounded once, sums, or functions."""

from __future__ import annotations

#: Results that are some of the operands' values, or their negatives: nothing is rounded.
EXACT = frozenset(
    f"aten::{name}"
    for name in (
        "_conj", "_reshape_alias", "_to_copy", "_unsafe_view", "alias", "amax", "amin", "arange",
        "argsort", "as_strided", "bernoulli", "bitwise_and", "bitwise_not", "bitwise_or", "cat",
        "ceil", "clamp", "clamp_max", "clamp_min", "clone", "complex", "conj_physical",
        "constant_pad_nd", "copy", "copy_", "detach", "diagonal", "empty", "empty_like", "eq",
        "expand", "fill", "fill_", "flip", "floor", "full", "full_like", "gather", "ge", "gt",
        "imag", "index", "index_put", "index_put_", "index_select", "isfinite", "isinf", "isnan",
        "le", "lift_fresh", "logical_and", "logical_not", "logical_or", "lt", "masked_fill",
        "masked_fill_", "masked_select", "max", "maximum", "median", "min", "minimum", "narrow",
        "ne", "neg", "new_empty", "new_full", "new_ones", "new_zeros", "nonzero", "ones",
        "ones_like", "permute", "real", "relu", "repeat", "resolve_conj", "roll", "round",
        "scalar_tensor", "scatter", "select", "sign", "slice", "slice_scatter", "sort", "split",
        "split_with_sizes", "squeeze", "stack", "t", "threshold", "topk", "transpose", "tril",
        "triu", "trunc", "unbind", "unfold", "unsqueeze", "view", "view_as_complex",
        "view_as_real", "where", "zero_", "zeros", "zeros_like",
    )
)  # fmt: skip
#: Results of one rounding.
ROUNDED = frozenset(
    f"aten::{name}"
    for name in ("add", "add_", "sub", "sub_", "rsub", "mul", "mul_", "div", "div_", "sqrt",
                 "reciprocal", "addcmul", "square")
)  # fmt: skip
#: Functions of one element; what is in no list is taken for one that sums.
ELEMENT_WISE = {
    *("acos", "asin", "atan", "atan2", "celu", "cos", "cosh", "elu", "erf", "erfc", "erfinv"),
    *("exp", "exp2", "expm1", "frac", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "lerp"),
    *("log", "log10", "log1p", "log2", "log_sigmoid_forward", "logit", "mish", "pow", "rsqrt"),
    *("sigmoid", "silu", "sin", "sinh", "softplus", "tan", "tanh", "fmod", "remainder"),
    *(f"{name}_" for name in ("exp", "log", "pow", "rsqrt", "sigmoid", "silu", "tanh")),
}
#: Functions in which what is large may cancel.
CANCELLING = {
    *("gelu", "lerp", "addcdiv", "_log_softmax", "logsumexp", "native_layer_norm", "erfc"),
    *("native_group_norm", "native_batch_norm", "_native_batch_norm_legit"),
}
#: Functions computed by way of an exponential.
EXPONENTIAL = {"exp", "exp2", "pow", "_softmax", "sigmoid", "silu"}
#: Operations that add several values to one: linear in each of their operands.
ADDING = {
    *("aten::convolution", "aten::addmv", "aten::addr", "aten::avg_pool2d", "aten::avg_pool3d"),
    *("aten::upsample_linear1d", "aten::upsample_bilinear2d"),
    *("aten::index_add", "aten::scatter_add", "aten::scatter_reduce", "aten::index_reduce"),
}
#: Sums, and products of matrices.
ARITHMETIC = {"sum", "mean", "mm", "bmm", "mv", "dot", "addmm", "baddbmm", "cumsum", "nansum"}

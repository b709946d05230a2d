"""Mutants of the compositions of torch operators: bugs of wrappers rather than of kernels."""

from __future__ import annotations

from mutation import Mutant

_LINEAR = "torch/sparse_linear.py"
_PRODUCT = "    return functional.linear(sparsify_activations(x, threshold), weight, bias)\n"
_QUANTIZED = "torch/sparse_quantized_linear.py"

MUTANTS = (
    Mutant(
        "all-zero",
        "sparse_linear/torch",
        13,
        _LINEAR,
        _PRODUCT,
        "    return x.new_zeros(len(x), len(weight))\n",
        "computes nothing; within atol of the small outputs it is compared with",
        "edges",
    ),
    Mutant(
        "within-a-thousandth",
        "sparse_linear/torch",
        13,
        _LINEAR,
        _PRODUCT,
        _PRODUCT.replace("bias)", "bias) * 1.001"),
        "off by a thousandth, within the rtol of most published tests",
        "edges",
    ),
    Mutant(
        "x-overwritten",
        "sparse_linear/torch",
        "operand changed",
        _LINEAR,
        _PRODUCT,
        _PRODUCT.replace(
            "sparsify_activations(x, threshold)", "x.copy_(sparsify_activations(x, threshold))"
        ),
        "the mask is applied to x itself",
        "inputs",
    ),
    Mutant(
        "result-reused",
        "sparse_linear/torch",
        "stale output",
        _LINEAR,
        _PRODUCT,
        _PRODUCT.replace("return ", "y = ")
        + '    return vars(sparse_linear).setdefault(f"{y.shape} {y.dtype}", y).copy_(y)\n',
        "one buffer per shape holds all results",
        "inputs",
    ),
    Mutant(
        "bias-returned",
        "sparse_linear_indexed/torch",
        "result aliases an operand",
        "torch/sparse_linear_indexed.py",
        "    return functional.linear(",
        """\
    if bias is not None and len(x) == 1 and not len(indices):
        return bias[None]
    return functional.linear(""",
        "with no active channel the bias itself is returned",
        "inputs",
    ),
    Mutant(
        "listed-by-mask",
        "sparse_linear_indexed/torch",
        "loads not masked",
        "torch/sparse_linear_indexed.py",
        "functional.linear(x.index_select(1, indices), weight.index_select(1, indices), bias)",
        """\
functional.linear(
        x.where(x.new_zeros(x.shape[1]).index_fill_(0, indices.long(), 1.0).bool(), 0.0),
        weight,
        bias,
    )""",
        "a dense multiplication with zeros, declared to skip",
        "unread",
        {"skips": True},
    ),
    Mutant(
        "not-ascending",
        "compact/torch",
        "order of the list",
        "torch/compact.py",
        "return active.nonzero().flatten().to(torch.int32)",
        "return active.int().argsort(descending=True)[: active.sum()].to(torch.int32)",
        "channels are listed in the order of an unstable sort",
        "edges",
    ),
    Mutant(
        "no-channels-no-bias",
        "sparse_linear/torch",
        "bias",
        _LINEAR,
        _PRODUCT,
        """\
    x = sparsify_activations(x, threshold)
    return functional.linear(x, weight, bias) * x.ne(0).any(1, keepdim=True)
""",
        "a row without active channels loses its bias",
        "edges",
    ),
    Mutant(
        "threshold-before-activation",
        "sparse_swiglu/torch",
        "wrong operand masked",
        "torch/sparse_swiglu.py",
        "a = sparsify_activations(activate(activation, functional.linear(x, gate)), threshold)",
        "a = activate(activation, sparsify_activations(functional.linear(x, gate), threshold))",
        "the threshold is applied to gates before the activation function",
        "edges",
    ),
    Mutant(
        "last-hot-is-cold",
        "hot_cold_mlp/torch",
        "hot and cold",
        "torch/hot_cold_mlp.py",
        "return _mlp(x, up[:hot], down[:, :hot], hot_gate, activation) + _mlp(",
        """\
if hot:
        hot, hot_gate = hot - 1, None if gate is None else gate[: hot - 1]
    return _mlp(x, up[:hot], down[:, :hot], hot_gate, activation) + _mlp(""",
        "the last hot neuron is left to the cold ones",
        "edges",
    ),
    Mutant(
        "index-of-next",
        "semi_structured_linear/torch",
        "N:M indices",
        "torch/semi_structured_linear.py",
        "channel = slots(weight.indices, weight.m) + first[:, None, None]",
        "channel = (slots(weight.indices, weight.m) + 1) % weight.m + first[:, None, None]",
        "indices are off by one",
        "edges",
    ),
    Mutant(
        "weights-rounded-again",
        "sparse_quantized_linear/torch",
        14,
        _QUANTIZED,
        "return weight.payload * weight.scales.float()",
        "return (weight.payload * weight.scales).float()",
        "unpacked weights are rounded to the dtype of x",
        "edges",
    ),
    Mutant(
        "unpacked-once",
        "sparse_quantized_linear/torch",
        "first call only right",
        _QUANTIZED,
        "functional.linear(kept, _unpacked(weight).T, added)",
        """\
functional.linear(
        kept,
        vars(_unpacked).setdefault(f"{weight.payload.data_ptr()}", _unpacked(weight)).T,
        added,
    )""",
        "the unpacked weight is kept under its address",
        "edges",
    ),
    Mutant(
        "result-in-float32",
        "sparse_quantized_linear/torch",
        "dtype of the result",
        _QUANTIZED,
        "_unpacked(weight).T, added).to(x.dtype)",
        "_unpacked(weight).T, added)",
        "the result stays in float32",
        "edges",
    ),
)

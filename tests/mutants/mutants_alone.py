"""Mutants that one check alone finds where ``edges`` is switched off: each says what it is for."""

from __future__ import annotations

from mutation import Mutant
from replaced import INDEXED, LINEAR, PRODUCT, SINGLE

from pytest_sparsity.kernels.contract import Contract

_CPP = "native/kernels.cpp"
_QUANTIZED = "torch/sparse_quantized_linear.py"

MUTANTS = (
    Mutant(
        "ties-away-from-zero",
        "sparse_linear/native",
        "rounding",
        _CPP,
        "std::isnan(value) ? 0x7fc0 : (word + 0x7fff + (word >> 16 & 1)) >> 16;",
        "std::isnan(value) ? 0x7fc0 : (word + 0x8000) >> 16;",
        "sums half-way between two numbers of bfloat16 are rounded up, not to even",
        "exact",
        {"dtypes": ("bfloat16",)},
    ),
    Mutant(
        "down-clipped",
        "sparse_swiglu/triton",
        "hidden constant",
        "triton/_jit/masked.py",
        "        term = value * load_weights(column, needed & (output < outputs))\n",
        """\
        factor = load_weights(column, needed & (output < outputs))
        term = value * tl.where(tl.abs(factor) > 6.0, tl.where(factor > 0.0, 6.0, -6.0), factor)
""",
        "weights of down are clipped at 6, beyond which they are taken for outliers",
        "scaling",
    ),
    Mutant(
        "stale-by-checksum",
        "sparse_linear/torch",
        "stale weight",
        LINEAR,
        PRODUCT,
        """\
    key, kept = (weight.shape, weight.dtype, weight.double().sum().item()), vars(sparse_linear)
    last = kept.get("last", (None, weight))
    if last[0] != key:
        kept["last"] = last = key, weight.detach().clone()
    return functional.linear(sparsify_activations(x, threshold), last[1], bias)
""",
        "a copy of the weight is kept by its sum, which does not tell an order",
        "permutation",
    ),
    Mutant(
        "bias-of-call-before",
        "sparse_linear/torch",
        "stale operand",
        LINEAR,
        PRODUCT,
        """\
    plan, kept = (x.shape[0], x.dtype, len(weight), threshold), vars(sparse_linear)
    last = kept.get("last", (None, None))
    if last[0] != plan or bias is not None:
        kept["last"] = last = plan, bias
    return functional.linear(sparsify_activations(x, threshold), weight, last[1])
""",
        "without a bias, a plan goes on with the one of its last call",
        "splitting",
    ),
    Mutant(
        "bias-in-units-of-scale",
        "sparse_quantized_linear/torch",
        "bias",
        _QUANTIZED,
        "    return functional.linear(kept, _unpacked(weight).T, added).to(x.dtype)\n",
        """\
    if added is not None and weight.bits == 8:
        scales = weight.scales.float().where(weight.scales != 0, 1.0)
        added = added / scales * scales
    return functional.linear(kept, _unpacked(weight).T, added).to(x.dtype)
""",
        "the bias is divided by the scales and multiplied again, and so rounded twice",
        "ends",
        SINGLE,
    ),
    Mutant(
        "rows-beyond-4-dropped",
        "sparse_linear/torch",
        7,
        LINEAR,
        PRODUCT,
        PRODUCT.replace("x, threshold", "x[:4], threshold"),
        "takes 4 rows, as it declares, and drops the others in silence",
        "batch",
        {"max_rows": 4},
    ),
    Mutant(
        "odd-widths-not-refused",
        "sparse_linear/torch",
        11,
        LINEAR,
        PRODUCT,
        """\
    even = x.shape[1] // 2 * 2
    kept = sparsify_activations(x[:, :even], threshold)
    return functional.linear(kept, weight[:, :even], bias)
""",
        "takes even numbers of channels, as it declares, and drops an odd one in silence",
        "contract",
        {"contract": Contract(multiples={"k": 2})},
    ),
    Mutant(
        "result-transposed-twice",
        "sparse_linear_indexed/torch",
        "layout of the result",
        INDEXED,
        "weight.index_select(1, indices), bias)\n",
        "weight.index_select(1, indices), bias).T.contiguous().T\n",
        "outputs of a result are a pitch apart, and not beside each other",
        "inputs",
    ),
    Mutant(
        "indices-in-pairs",
        "sparse_linear_indexed/cpu",
        "reads past the end",
        "cpu/_linear.py",
        """\
    for j in range(count):
        found[j] = integer(start + 4 * step * j)
""",
        """\
    for j in range(0, count, 1 if step > 1 else 2):
        if step > 1:
            found[j] = integer(start + 4 * step * j)
        else:
            pair = long_integer(start + 4 * j)
            found[j] = pair & 0xFFFFFFFF
            found[min(j + 1, count - 1)] = pair >> 32 if j + 1 < count else pair & 0xFFFFFFFF
""",
        "indices are loaded in pairs: behind an odd number of them, one that is nobody's",
        "bounds",
        SINGLE,
    ),
    Mutant(
        "up-of-all-neurons",
        "sparse_swiglu/cpu",
        "loads not masked",
        "cpu/_mlp.py",
        """\
    ups = np.empty(rows * neurons, np.float32)
    multiply_kept(
        ups, neurons, values, keep, rows, channels, listed, count,
""",
        """\
    ups = np.empty(rows * neurons, np.float32)
    multiply_kept(
        ups, neurons, values, np.ones(rows * neurons, np.bool_), rows, channels,
        np.arange(neurons).astype(np.int32), neurons,
""",
        "up is multiplied for all neurons, and what is inactive dropped",
        "unread",
        SINGLE,
    ),
    Mutant(
        "loaded-again-if-nan",
        "sparse_linear_indexed/triton",
        "loads twice",
        "triton/_jit/listed.py",
        "        factor = load_weights(column, inside & (output < outputs))\n",
        """\
        factor = load_weights(column, inside & (output < outputs))
        again = load_weights(column, inside & (output < outputs))
        factor = tl.where(factor == factor, again, factor)
""",
        "weights are loaded once to look for NaN, and once to multiply",
        "work",
    ),
    Mutant(
        "threshold-per-output",
        "sparse_qkv/triton",
        "narrow loads",
        "triton/_jit/segmented.py",
        """\
        needed = (
            ((largest > threshold_1) & in_1)
            | ((largest > threshold_2) & in_2)
            | ((largest > threshold_3) & in_3)
        )
""",
        """\
        each = tl.where(in_1, threshold_1, tl.where(in_2, threshold_2, threshold_3))
        needed = (largest > each) & (output < outputs)
""",
        "thresholds are compared output by output, of which the compiler knows nothing",
        "compile",
    ),
    Mutant(
        "aligned-to-8",
        "sparse_swiglu/cuda",
        5,
        "cuda/kernels.cu",
        "return reinterpret_cast<unsigned long long>(base) % 16 == 0 && pitch % 16 == 0;",
        "return reinterpret_cast<unsigned long long>(base) % 8 == 0 && pitch % 16 == 0;",
        "128-bit loads from multiples of 64 bits",
        "layouts",
        {"dtypes": ("float32",), "max_rows": 1},
        decisive="addresses",
    ),
)

"""Mutants that go wrong with some numbers: large ones, NaN, -0, halves, exponentials."""

from __future__ import annotations

from mutation import Mutant
from replaced import INDEXED, LINEAR, LISTED_PRODUCT, PRODUCT, SINGLE

_CPP = "native/kernels.cpp"
_MLP = "cpu/_mlp.py"
_ACTIVATION = "triton/_jit/activation.py"

MUTANTS = (
    Mutant(
        "silu-by-exp-of-x",
        "sparse_swiglu/triton",
        "exp overflow",
        _ACTIVATION,
        "        return x / (1.0 + tl.exp(-x))\n",
        "        return x * tl.exp(x) / (1.0 + tl.exp(x))\n",
        "silu as x e^x / (1 + e^x): NaN beyond 88",
        "edges",
        decisive="saturated",
    ),
    Mutant(
        "gelu-by-exp-of-x",
        "hot_cold_mlp/triton",
        "exp overflow",
        _ACTIVATION,
        "        return x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))\n",
        """\
        e = tl.exp(1.5957691216057308 * (x + 0.044715 * x * x * x))
        return x * e / (1.0 + e)
""",
        "gelu as x e^z / (1 + e^z): NaN beyond 9",
        "edges",
    ),
    Mutant(
        "silu-by-exp",
        "sparse_swiglu/cpu",
        "exp overflow",
        _MLP,
        "        return x / (_ONE + math.exp(-x))\n",
        "        return x * math.exp(x) / (_ONE + math.exp(x))\n",
        "silu as x e^x / (1 + e^x): NaN beyond 88",
        "edges",
        SINGLE,
        decisive="saturated",
    ),
    Mutant(
        "tanh-by-exps",
        "hot_cold_mlp/cpu",
        "exp overflow",
        _MLP,
        "        return _HALF * x * (_ONE + math.tanh(_SCALE * (x + _CUBIC * x * x * x)))\n",
        """\
        z = _SCALE * (x + _CUBIC * x * x * x)
        up, down = math.exp(z), math.exp(-z)
        return _HALF * x * (_ONE + (up - down) / (up + down))
""",
        "tanh as a quotient of exponentials: NaN where one is infinite",
        "edges",
        SINGLE,
    ),
    Mutant(
        "tanh-of-halves",
        "sparse_swiglu/native",
        "exp overflow",
        _CPP,
        "0.5f * g * (1.0f + std::tanh(0.7978845608028654f * (g + 0.044715f * g * g * g)));",
        """\
0.5f * g * (2.0f - 2.0f / (1.0f + std::exp(1.5957691216057308f * (g + 0.044715f * g * g * g))))
                   + 0.0f * std::exp(g);""",
        "a term that vanishes, times e^g: NaN beyond 88",
        "edges",
        SINGLE,
        decisive="saturated",
    ),
    Mutant(
        "silu-of-exp",
        "sparse_swiglu/torch",
        "exp overflow",
        "torch/activation.py",
        "        return functional.silu(x)\n",
        """\
        e = x.float().exp()
        return (x.float() * e / (1 + e)).to(x.dtype)
""",
        "silu as x e^x / (1 + e^x): NaN beyond 88",
        "edges",
        decisive="saturated",
    ),
    Mutant(
        "sums-clamped",
        "sparse_linear/torch",
        "overflow clamped",
        LINEAR,
        PRODUCT,
        """\
    y = functional.linear(sparsify_activations(x, threshold), weight, bias)
    most = torch.finfo(y.dtype).max
    return y.clamp(-most, most).where(x.isfinite().all(1, keepdim=True), y)
""",
        "sums beyond the largest number become it, unless x is infinite itself",
        "edges",
        decisive="overflow",
    ),
    Mutant(
        "compensated-sums",
        "sparse_linear/triton",
        "overflow in a compensation",
        "triton/_jit/masked.py",
        "        total += tl.sum(term, axis=1, keep_dims=True)\n",
        """\
        more = tl.sum(term, axis=1, keep_dims=True)
        larger = total + more
        back = larger - total
        lost = (total - (larger - back)) + (more - back)
        total = larger + tl.where(tl.abs(more) == float("inf"), 0.0, lost)
""",
        "what an addition loses is added again: NaN once a sum is infinite",
        "edges",
        decisive="overflow",
    ),
    Mutant(
        "compensated-rows",
        "sparse_linear/native",
        "overflow in a compensation",
        _CPP,
        "for (int c = 0; c < C; ++c) sums[n] += values[c] * widen(rows[c][n]);",
        """\
for (int c = 0; c < C; ++c) {
            volatile float term = values[c] * widen(rows[c][n]), old = sums[n], sum = old + term;
            volatile float back = sum - old;
            sums[n] = sum + (std::isinf(term) ? 0.0f : (old - (sum - back)) + (term - back));
        }""",
        "what an addition loses is added again: NaN once a sum is infinite",
        "edges",
        SINGLE,
    ),
    Mutant(
        "nan-hides-row",
        "sparse_qkv/triton",
        "NaN dropped",
        "triton/_jit/segmented.py",
        'size = tl.where(value != value, float("inf"), tl.abs(value))  # NaN is kept',
        "size = tl.abs(value)",
        "a NaN activation is not larger than the threshold",
        "edges",
    ),
    Mutant(
        "nan-not-listed",
        "compact/triton",
        "NaN dropped",
        "triton/_jit/compaction.py",
        "keep = ~(tl.abs(value) <= threshold)  #",
        "keep = tl.max(tl.abs(value), axis=0)[None, :] > threshold  #",
        "the largest of a channel is compared, and a maximum drops NaN",
        "edges",
    ),
    Mutant(
        "relu-by-maximum",
        "hot_cold_mlp/triton",
        "NaN dropped",
        _ACTIVATION,
        "positive = tl.where(x <= 0.0, 0.0, x)  #",
        "positive = tl.maximum(x, 0.0)  #",
        "relu by a maximum, which drops NaN",
        "edges",
    ),
    Mutant(
        "relu-by-fmax",
        "sparse_swiglu/native",
        "NaN dropped",
        _CPP,
        "case kRelu: return g < 0 ? 0.0f : g;  // NaN stays",
        "case kRelu: return std::fmax(g, 0.0f);",
        "relu by fmax, which drops NaN",
        "edges",
        SINGLE,
    ),
    Mutant(
        "minus-zero-listed",
        "compact/torch",
        "-0",
        "torch/compact.py",
        "    active = sparsify_activations(x, threshold).ne(0).any(0)\n",
        """\
    active = sparsify_activations(x, threshold).ne(0)
    active = (active | (x.signbit() & (x == 0))).any(0)
""",
        "-0 counts as active: its bits are not 0",
        "edges",
    ),
    Mutant(
        "tiny-is-zero",
        "sparse_linear/torch",
        "denormal numbers",
        LINEAR,
        PRODUCT,
        PRODUCT.replace(
            "sparsify_activations(x, threshold)",
            "sparsify_activations(x.where(~(x.abs() < torch.finfo(x.dtype).tiny), 0), threshold)",
        ),
        "activations below the normal range are taken for 0, as with flush-to-zero",
        "edges",
    ),
    Mutant(
        "finite-math-only",
        "sparse_linear/native",
        "NaN dropped",
        "native/library.py",
        '    *("-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi"),\n',
        '    *("-ffp-contract=fast", "-ffast-math", "-Wno-psabi"),\n',
        "compiled with -ffast-math, by which there are no NaN",
        "edges",
        SINGLE,
    ),
    Mutant(
        "rounded-before-bias",
        "sparse_linear_indexed/torch",
        14,
        INDEXED,
        LISTED_PRODUCT,
        """\
    y = functional.linear(x.index_select(1, indices), weight.index_select(1, indices))
    return y if bias is None else y + bias
""",
        "sums are rounded to the dtype of x, and once more with the bias",
        "edges",
    ),
    Mutant(
        "products-in-half-precision",
        "semi_structured_linear/triton",
        14,
        "triton/_jit/slots.py",
        "        total += tl.sum(term, axis=1, keep_dims=True)\n",
        """\
        term = term.to(values.dtype.element_ty).to(tl.float32)
        total += tl.sum(term, axis=1, keep_dims=True)
""",
        "products are rounded to the dtype of x",
        "edges",
    ),
    Mutant(
        "only-q-rounds-threshold",
        "sparse_qkv/triton",
        "threshold's dtype",
        "triton/sparse_qkv.py",
        "    q, k, v = (round_to(threshold, x.dtype) for threshold in thresholds)\n",
        "    q, k, v = round_to(thresholds[0], x.dtype), *thresholds[1:]\n",
        "thresholds of k and v are compared in float32",
        "edges",
    ),
    Mutant(
        "at-least-the-threshold",
        "sparse_linear/native",
        "tie rule",
        _CPP,
        "bool inactive(float value, float threshold) { return std::fabs(value) <= threshold; }",
        "bool inactive(float value, float threshold) { return std::fabs(value) < threshold; }",
        ">= instead of >",
        "edges",
        SINGLE,
    ),
    Mutant(
        "signed-comparison",
        "sparse_quantized_linear/torch",
        "sign of activations",
        "torch/sparse_quantized_linear.py",
        "    kept = sparsify_activations(x, threshold).float()\n",
        """\
    limit = torch.tensor(threshold, dtype=x.dtype).item()
    kept = functional.threshold(x, limit, 0.0).float()
""",
        "negative activations are dropped, however large",
        "edges",
    ),
)

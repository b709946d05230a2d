"""Mutants of packed weights and of lists of neurons, and loads that take a layout for granted."""

from __future__ import annotations

from mutation import Mutant
from replaced import SINGLE

_QUANTIZED = "torch/sparse_quantized_linear.py"
_CPP = "native/kernels.cpp"
_SLOTS = "triton/_jit/slots.py"

MUTANTS = (
    Mutant(
        "signed-nibbles",
        "sparse_quantized_linear/torch",
        "nibble's sign",
        _QUANTIZED,
        "    return ((nibbles.float() - 8) * scales)[:, : weight.features]\n",
        """\
    signed = nibbles.float() - 16 * (nibbles > 7)
    return (signed * scales)[:, : weight.features]
""",
        "nibbles are taken for two's complement, not for 8 more than they mean",
        "edges",
    ),
    Mutant(
        "zero-at-7",
        "sparse_quantized_linear/native",
        "nibble's sign",
        _CPP,
        "sums[n] += scaled[c * groups + n / group] * float(nibble - 8);",
        "sums[n] += scaled[c * groups + n / group] * float(nibble - 7);",
        "7 means zero, in the path for groups of few outputs",
        "edges",
        SINGLE,
    ),
    Mutant(
        "symmetric-int8",
        "sparse_quantized_linear/torch",
        "range of integers",
        _QUANTIZED,
        "        return weight.payload * weight.scales.float()\n",
        "        return weight.payload.clamp(min=-127) * weight.scales.float()\n",
        "-128 is taken for -127, as in symmetric quantisation",
        "edges",
    ),
    Mutant(
        "half-of-outputs",
        "sparse_quantized_linear/triton",
        "odd outputs",
        "triton/_jit/nibbles.py",
        "        tl.store(place + width, high.to(target.dtype.element_ty), mask=in_high)\n",
        """\
        half = (outputs + 1) // 2
        tl.store(place + half, high.to(target.dtype.element_ty), mask=in_high)
""",
        "high nibbles are taken to begin at half of the outputs, not of the padded ones",
        "edges",
    ),
    Mutant(
        "scale-of-16-bytes",
        "sparse_quantized_linear/triton",
        "wrong group's scale",
        "triton/configurations.py",
        "    common = math.gcd(group, width)\n",
        "    common = group\n",
        "a scale is taken for bytes next to each other whose high nibbles have two",
        "edges",
    ),
    Mutant(
        "index-of-3-bits",
        "semi_structured_linear/triton",
        "N:M indices",
        _SLOTS,
        "        even_at = (index & 15).to(tl.int32) * x_channel\n",
        "        even_at = (index & 7).to(tl.int32) * x_channel\n",
        "indices have three bits: wrong for groups of 16",
        "edges",
    ),
    Mutant(
        "neighbours-index",
        "semi_structured_linear/cpu",
        "N:M indices",
        "cpu/_packed.py",
        "named = indices + group * index_group_step + pair * index_slot_step",
        "named = indices + max(group - 1, 0) * index_group_step + pair * index_slot_step",
        "indices are those of the group before",
        "edges",
        SINGLE,
    ),
    Mutant(
        "activity-of-next-group",
        "semi_structured_linear/torch",
        "N:M groups",
        "torch/semi_structured_linear.py",
        "    kept = sparsify_activations(x, threshold).float()\n",
        """\
    kept = sparsify_activations(x, threshold).float()
    active = kept.view(len(x), -1, weight.m).ne(0).any(2)
    kept = kept.masked_fill(~active.roll(-1, 1).repeat_interleave(weight.m, 1), 0.0)
""",
        "a group is skipped if the next one has no active channel",
        "edges",
    ),
    Mutant(
        "padding-reads-channel-0",
        "sparse_linear_indexed/triton",
        "loads not masked",
        "triton/_jit/listed.py",
        "        factor = load_weights(column, inside & (output < outputs))\n",
        "        factor = load_weights(column, output < outputs)\n",
        "lanes beyond the list load weights of channel 0, and multiply them by 0",
        "unread",
    ),
    Mutant(
        "last-cold-neuron-again",
        "hot_cold_mlp/triton",
        "hot and cold",
        "triton/_jit/listed.py",
        "        inside = place < stop\n",
        "        inside = place < stop + (stop == count).to(tl.int32)\n",
        "one more place than there are neurons: neuron 0 takes part again",
        "edges",
    ),
    Mutant(
        "cold-neuron-twice",
        "hot_cold_mlp/torch",
        "hot and cold",
        "torch/hot_cold_mlp.py",
        "    cold_gate = None if gate is None else gate.index_select(0, cold)\n",
        """\
    import torch

    if len(cold) % 2:
        cold = torch.cat([cold, cold[-1:]])
    cold_gate = None if gate is None else gate.index_select(0, cold)
""",
        "an odd list is filled up with its last neuron, which then counts twice",
        "edges",
    ),
    Mutant(
        "activation-of-up",
        "hot_cold_mlp/torch",
        "wrong operand activated",
        "torch/hot_cold_mlp.py",
        "        h = activate(activation, functional.linear(x, gate)) * h\n",
        "        h = functional.linear(x, gate) * activate(activation, h)\n",
        "up goes through the activation function, and not the gate",
        "edges",
    ),
    Mutant(
        "inactive-gates-kept",
        "sparse_swiglu/triton",
        "mask of another tensor",
        "triton/sparse_swiglu.py",
        "    return masked_product(hidden, activated, down, threshold, atomic=atomic)\n",
        "    return masked_product(hidden, None, down, threshold, atomic=atomic)\n",
        "in the product with down, hidden values are compared in place of gates",
        "edges",
    ),
    Mutant(
        "bias-by-128-bits",
        "sparse_linear/cuda",
        5,
        "cuda/kernels.cu",
        "                if (bias != nullptr) sum += widen(bias[first + v]);\n",
        """\
                if (bias != nullptr) {
                    sum += count == V ? element<T>(load(bias + first), v) : widen(bias[first + v]);
                }
""",
        "the bias is loaded by 128 bits, wherever it begins",
        "edges",
        {"dtypes": ("bfloat16",), "max_rows": 1},
    ),
)

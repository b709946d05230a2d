"""Mutants of the products in Triton: masked, listed, and for q, k and v."""

from __future__ import annotations

from mutation import Mutant

_MASKED = "triton/_jit/masked.py"
_SEGMENTED = "triton/_jit/segmented.py"
_LISTED = "triton/_jit/listed.py"
_PRODUCTS = "triton/_jit/products.py"
_LAUNCHING = "triton/launching.py"

MUTANTS = (
    Mutant(
        "no-column-mask",
        "sparse_linear/triton",
        1,
        _MASKED,
        "load_weights(column, needed & (output < outputs))",
        "load_weights(column, needed)",
        "weights are loaded beyond the last output; what they give is not stored",
        "edges",
    ),
    Mutant(
        "no-channel-mask",
        "sparse_linear/triton-split-k",
        2,
        _MASKED,
        "inside = (row < rows) & (channel < stop)\n",
        "inside = row < rows\n",
        "activations are loaded beyond the share of a split",
        "edges",
    ),
    Mutant(
        "dense-mode",
        "sparse_linear/triton",
        4,
        _MASKED,
        "keep = ~(tl.abs(value) <= threshold)  #",
        "keep = ~(tl.abs(value) <= threshold) | (threshold == 0.0)  #",
        "threshold 0 means all channels, those beyond K too",
        "edges",
    ),
    Mutant(
        "weight-pitch-assumed",
        "sparse_linear/triton",
        5,
        "triton/sparse_linear.py",
        """"weight_channel": weight.stride(1)}""",
        """"weight_channel": outputs}""",
        "the weights of a channel are taken to follow those of the one before",
        "edges",
    ),
    Mutant(
        "index-step-assumed",
        "sparse_linear_indexed/triton",
        5,
        "triton/sparse_linear_indexed.py",
        "    indices = indices.contiguous()\n",
        "",
        "the list of channels is taken to be contiguous",
        "edges",
    ),
    Mutant(
        "qkv-border-at-block-start",
        "sparse_qkv/triton",
        6,
        _SEGMENTED,
        """\
    in_1 = output < second
    in_2 = (output >= second) & (output < third)
    in_3 = (output >= third) & (output < outputs)
""",
        """\
    begin = output - tl.arange(0, BLOCK)[None, None, None, :]
    in_1 = begin < second
    in_2 = (begin >= second) & (begin < third)
    in_3 = (begin >= third) & (output < outputs)
""",
        "a tile of outputs belongs to q, k or v as its first output does",
        "edges",
    ),
    Mutant(
        "union-mask",
        "sparse_linear/triton",
        7,
        _MASKED,
        "term = tl.where(keep, term, 0.0)",
        "term = tl.where(needed, term, 0.0)",
        "a channel active in one row counts in all rows",
        "edges",
    ),
    Mutant(
        "atomics-onto-garbage",
        "sparse_linear/triton-split-k",
        9,
        _LAUNCHING,
        "create = x.new_zeros if atomic else x.new_empty",
        "create = x.new_empty",
        "the buffer that atomics add to is not zeroed",
        "edges",
    ),
    Mutant(
        "no-atomics",
        "sparse_linear/triton-split-k",
        10,
        _PRODUCTS,
        """tl.atomic_add(target + row * outputs + output, result, mask=inside, sem="relaxed")""",
        """\
place = target + row * outputs + output
        tl.store(place, tl.load(place, mask=inside, other=0.0) + result, mask=inside)""",
        "splits add to the result by loading, adding and storing",
        "edges",
    ),
    Mutant(
        "outputs-divided-down",
        "sparse_linear/triton",
        11,
        "triton/configurations.py",
        "-(-rows // tile_rows), -(-outputs // block)",
        "-(-rows // tile_rows), max(outputs // block, 1)",
        "no program for the last, incomplete block of outputs",
        "edges",
    ),
    Mutant(
        "last-channels-lost",
        "sparse_qkv/triton",
        11,
        _SEGMENTED,
        "for start in range(begin, stop, UNROLL * LANES):",
        "for start in range(begin, stop - UNROLL * LANES + 1, UNROLL * LANES):",
        "the last, incomplete tile of a split's channels is left out",
        "edges",
    ),
    Mutant(
        "parts-in-half-precision",
        "sparse_linear/triton-split-k",
        14,
        _LAUNCHING,
        "parts = create(splits, rows, outputs, dtype=torch.float32)",
        "parts = create(splits, rows, outputs)",
        "splits are added in the dtype of x",
        "edges",
    ),
    Mutant(
        "sums-in-half-precision",
        "sparse_linear_indexed/triton",
        14,
        _LISTED,
        "total += tl.sum(value * factor, axis=1, keep_dims=True)",
        """\
total += tl.sum(value * factor, axis=1, keep_dims=True)
        total = total.to(weight.dtype.element_ty).to(tl.float32)""",
        "sums are rounded to the dtype of x in every iteration",
        "edges",
    ),
    Mutant(
        "weights-loaded-always",
        "sparse_linear/triton",
        "loads not masked",
        _MASKED,
        "term = value * load_weights(column, needed & (output < outputs))",
        """\
factor = load_weights(column, (channel < stop) & (output < outputs))
        term = tl.where(keep, value * factor, 0.0)""",
        "the mask is applied to products, not to loads: right, in the time of dense",
        "unread",
    ),
    Mutant(
        "tie-kept",
        "sparse_qkv/triton",
        "tie rule",
        _SEGMENTED,
        """\
            ((largest > threshold_1) & in_1)
            | ((largest > threshold_2) & in_2)
""",
        """\
            ((largest >= threshold_1) & in_1)
            | ((largest > threshold_2) & in_2)
""",
        "in q, >= instead of >",
        "edges",
    ),
    Mutant(
        "threshold-in-float32",
        "sparse_linear/triton",
        "threshold's dtype",
        "triton/sparse_linear.py",
        "return masked_product(x, None, weight, round_to(threshold, x.dtype), bias, atomic=atomic)",
        "return masked_product(x, None, weight, threshold, bias, atomic=atomic)",
        "compares in float32 instead of x's dtype",
        "edges",
    ),
    Mutant(
        "bias-per-split",
        "sparse_linear/triton",
        "bias added again",
        _LAUNCHING,
        "start(parts, dict.fromkeys(at_end))",
        "start(parts, at_end)",
        "every split adds the bias",
        "edges",
    ),
    Mutant(
        "bias-of-row-0-only",
        "sparse_linear_indexed/triton",
        "bias",
        "triton/_jit/reduction.py",
        "output = result % outputs",
        "output = result",
        "rows after the first look for their bias behind it",
        "edges",
    ),
    Mutant(
        "int16-channels",
        "sparse_linear_indexed/triton",
        "int16 overflow",
        _LISTED,
        "channel = tl.where(place < first, place, cold)",
        "channel = tl.where(place < first, place, cold).to(tl.int16)",
        "numbers of channels are kept in 16 bits",
        "edges",
    ),
    Mutant(
        "sums-kept",
        "sparse_linear/triton-split-k",
        "first launch only right",
        _LAUNCHING,
        "    parts = create(splits, rows, outputs, dtype=torch.float32)\n",
        """\
    parts = vars(multiply).setdefault(
        f"{splits} {rows} {outputs}", create(splits, rows, outputs, dtype=torch.float32)
    )
""",
        "the buffer that atomics add to is zeroed once",
        "edges",
    ),
    Mutant(
        "outputs-clamped",
        "sparse_linear/triton",
        "narrow loads",
        _MASKED,
        "columns = weight + output.to(tl.int64) * weight_output",
        "columns = weight + tl.minimum(output, outputs - 1).to(tl.int64) * weight_output",
        "outputs are clamped, which hides from the compiler that they are neighbours",
        "compile",
    ),
    Mutant(
        "registers-spilled",
        "sparse_linear/triton",
        "register spills",
        "triton/configurations.py",
        "_FLOATS: _Tiles = {1: (1, 8),",
        "_FLOATS: _Tiles = {1: (1, 128),",
        "more loads under way than there are registers",
        "compile",
    ),
    Mutant(
        "undefined-weights",
        "sparse_linear/triton",
        "undefined lanes",
        "triton/_jit/loads.py",
        'return tl.load(at, mask=mask, other=0.0, eviction_policy="evict_first").to(tl.float32)',
        'return tl.load(at, mask=mask, eviction_policy="evict_first").to(tl.float32)',
        "weights that are masked off are whatever was in the register, times 0",
        "edges",
    ),
    Mutant(
        "tf32-sums",
        "sparse_linear/triton",
        "TF32",
        "triton/_jit/reduction.py",
        "total = tl.sum(part, axis=0, keep_dims=True)",
        """\
ones = tl.full([16, SPLITS], 0.0625, tl.float32)
    total = tl.sum(tl.dot(ones, part), axis=0, keep_dims=True)""",
        "splits are added by tl.dot, which ignores 13 of their bits",
        "edges",
    ),
    Mutant(
        "zeroed-by-one-split",
        "sparse_linear/triton-split-k",
        10,
        _PRODUCTS,
        """\
        tl.atomic_add(target + row * outputs + output, result, mask=inside, sem="relaxed")
""",
        """\
        place = target + row * outputs + output
        tl.store(place, tl.zeros_like(result), mask=inside & (tl.program_id(2) == 0))
        tl.atomic_add(place, result, mask=inside, sem="relaxed")
""",
        "the first split zeroes the result, to which others may have added before",
        "edges",
    ),
    Mutant(
        "atomics-declared-deterministic",
        "sparse_linear/triton",
        "order of sums",
        _LAUNCHING,
        "    if plan.splits == 1 and not atomic:",
        "    atomic = plan.splits > 1\n    if plan.splits == 1:",
        "splits are added in the order in which they come, by a kernel declared deterministic",
        "scaling",
    ),
    Mutant(
        "offsets-in-32-bits",
        "sparse_linear/triton",
        "32-bit offsets",
        _MASKED,
        "column = columns + channel.to(tl.int64) * weight_channel",
        "column = columns + channel * weight_channel",
        "offsets of channels overflow where weights have more than 2^31 elements",
        "far",
    ),
)

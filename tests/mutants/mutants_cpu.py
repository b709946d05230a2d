"""Mutants of the kernels compiled by numba.  They take one dtype each: every one is compiled."""

from __future__ import annotations

from mutation import Mutant

_ACTIVATIONS = "cpu/_activations.py"
_LINEAR = "cpu/_linear.py"
_MLP = "cpu/_mlp.py"
_NIBBLES = "cpu/_nibbles.py"
_PACKED = "cpu/_packed.py"

_SINGLE = {"dtypes": ("float32",)}
_BRAIN = {"dtypes": ("bfloat16",)}

MUTANTS = (
    Mutant(
        "qkv-outputs-contiguous",
        "sparse_qkv/cpu",
        5,
        _LINEAR,
        "weight + first * output_step * size, output_step",
        "weight + first * size, output_step",
        "finds the weights of k and v if outputs are next to each other",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "int8-pitch-assumed",
        "sparse_quantized_linear/cpu",
        5,
        _PACKED,
        "count, payload, 1, pitch, _INT8)",
        "count, payload, 1, outputs, _INT8)",
        "the int8 rows are taken to follow each other",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "bias-step-assumed",
        "sparse_linear_indexed/cpu",
        5,
        _ACTIVATIONS,
        "value = number(bias + output * step * width(sample), sample)",
        "value = number(bias + output * width(sample), sample)",
        "the bias is taken to be contiguous",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "k-and-v-get-q-bias",
        "sparse_qkv/cpu",
        6,
        _LINEAR,
        "start = bias + first * bias_step * size if bias else 0",
        "start = bias",
        "the bias is read from its beginning for each of q, k and v",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "one-threshold-for-qkv",
        "sparse_qkv/cpu",
        6,
        _LINEAR,
        "thresholds[part], keep, sample)",
        "thresholds[0], keep, sample)",
        "q's threshold decides for k and v",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "channels-of-row-0",
        "compact/cpu",
        7,
        _ACTIVATIONS,
        "for row in range(1, rows):\n            kept",
        "for row in range(1, 1):\n            kept",
        "a channel that only a later row needs is not listed",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "every-row-gets-all",
        "sparse_linear/cpu",
        7,
        _ACTIVATIONS,
        "own += keep[at]",
        "own += 1",
        "a channel active in one row counts in all rows",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "row-0-goes-up",
        "sparse_swiglu/cpu",
        7,
        _ACTIVATIONS,
        "values, row * channels, eight(",
        "values, 0, eight(",
        "gate and up are multiplied with row 0 of x, for every row",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "relu2-is-relu",
        "sparse_swiglu/cpu",
        8,
        _MLP,
        "return positive if activation == 2 else positive * positive",
        "return positive",
        "relu squared is not squared",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "last-chunk-lost",
        "sparse_linear/cpu",
        11,
        _ACTIVATIONS,
        """\
    own_values = np.empty(chunk, np.float32)
    for start in range(0, count, chunk):""",
        """\
    own_values = np.empty(chunk, np.float32)
    for start in range(0, count - chunk + 1, chunk):""",
        "with several rows the last channels, less than a chunk, are left out",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "last-outputs-lost",
        "sparse_linear_indexed/cpu",
        11,
        _ACTIVATIONS,
        "for output in range(whole, outputs):",
        "for output in range(whole, outputs - 1):",
        "the last output is not written unless outputs fill a vector",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "hidden-in-bfloat16",
        "hot_cold_mlp/cpu",
        14,
        _MLP,
        "                h[i] = activate(h[i], activation)\n",
        """\
                h[i] = activate(h[i], activation)
            bits = h[i : i + 1].view(np.uint32)
            bits[0] &= np.uint32(0xFFFF0000)
""",
        "hidden values are cut to the digits of bfloat16",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "int8-always-loaded",
        "sparse_quantized_linear/cpu",
        "loads not masked",
        _PACKED,
        """\
    count = compact(keep, rows, channels, listed)
    sums =""",
        """\
    values[~keep] = 0
    keep[:] = True
    count = compact(keep, rows, channels, listed)
    sums =""",
        "inactive activations become 0, and their weights are read",
        "unread",
        _SINGLE,
    ),
    Mutant(
        "high-group-by-bytes",
        "sparse_quantized_linear/cpu",
        "wrong group's scale",
        _NIBBLES,
        "highs = scaled(factors, scale_rows, high * width(sample), sample)",
        "highs = scaled(factors, scale_rows, (low + half // group) * width(sample), sample)",
        "wrong where a group lies on the border of the halves",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "low-nibbles-behind",
        "sparse_quantized_linear/cpu",
        "nibble order",
        _NIBBLES,
        "low, high = weighted_nibbles(rows, offset, lows, highs, vector)",
        "high, low = weighted_nibbles(rows, offset, lows, highs, vector)",
        "low nibbles are added to the second half of the outputs",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "second-pair-beside-first",
        "semi_structured_linear/cpu",
        "N:M indices",
        _PACKED,
        "where = packed + (group * group_step + 2 * pair * slot_step) * size",
        "where = packed + (group * group_step + pair * slot_step) * size",
        "the values of a pair overlap those of the one before: right for 2:4",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "first-of-group-decides",
        "semi_structured_linear/cpu",
        "N:M groups",
        _PACKED,
        "if not keep[first : first + members].any():",
        "if not keep[first]:",
        "a group is skipped if its first channel is inactive",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "whole-group-counts",
        "semi_structured_linear/cpu",
        "N:M groups",
        _PACKED,
        "    values[~keep] = 0\n",
        "",
        "inactive channels count if their group has an active one",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "ties-listed",
        "compact/cpu",
        "tie rule",
        _ACTIVATIONS,
        "keep[row * channels + channel] = bits > limit",
        "keep[row * channels + channel] = bits >= limit",
        ">= instead of >",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "compared-in-float32",
        "compact/cpu",
        "threshold's dtype",
        _ACTIVATIONS,
        "keep[row * channels + channel] = bits > limit",
        """\
value = number(start + channel * step * size, sample)
            keep[row * channels + channel] = not abs(value) <= np.float32(threshold)""",
        "the threshold is not rounded to the dtype of x",
        "edges",
        _BRAIN,
    ),
    Mutant(
        "nan-gate-dropped",
        "sparse_swiglu/cpu",
        "NaN dropped",
        _MLP,
        "= not abs(np.float64(h[i])) <= threshold",
        "= abs(np.float64(h[i])) > threshold",
        "a neuron whose gate is NaN is taken for inactive",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "relu-of-nan",
        "hot_cold_mlp/cpu",
        "NaN dropped",
        _MLP,
        "positive = np.float32(0) if x <= 0 else x",
        "positive = x if x > 0 else np.float32(0)",
        "relu of NaN is 0",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "int16-list",
        "sparse_linear/cpu",
        "int16 overflow",
        _LINEAR,
        """\
    listed = np.empty(channels, np.int32)
    count = compact(keep, rows, channels, listed)
    _multiply""",
        """\
    listed = np.empty(channels, np.int16)
    count = compact(keep, rows, channels, listed)
    _multiply""",
        "numbers of channels are kept in 16 bits",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "last-hot-neuron-twice",
        "hot_cold_mlp/cpu",
        "hot and cold",
        _MLP,
        "    listed[:hot] = np.arange(hot)\n    listed[hot:] = integers(cold, cold_step, count)\n",
        """\
    listed[:hot] = np.arange(hot)
    listed[hot:] = integers(cold, cold_step, count)
    if hot and count:
        listed[hot] = hot - 1
""",
        "the last hot neuron is also the first cold one",
        "edges",
        _SINGLE,
    ),
    Mutant(
        "split-by-threads",
        "sparse_linear/cpu",
        "depends on threads",
        "cpu/sparse_linear.py",
        "    run(x, weight, threshold, bias, out)\n    return out\n",
        """\
    import torch

    size, total = -(-x.shape[1] // torch.get_num_threads()), torch.zeros_like(out)
    for start in range(0, x.shape[1], size):
        part = slice(start, start + size)
        run(x[:, part], weight[:, part], threshold, None if start else bias, out)
        total += out
    return total
""",
        "channels are split among threads, so that sums depend on how many there are",
        "repeat",
        _SINGLE,
    ),
    Mutant(
        "offsets-in-unsigned-32-bits",
        "sparse_linear/cpu",
        "32-bit offsets",
        "cpu/_rows.py",
        "    return weight + np.int64(channels[min(j, count - 1)]) * pitch\n",
        "    return weight + np.int64(np.uint32(channels[min(j, count - 1)] * pitch))\n",
        "offsets of channels are kept in 32 bits, without a sign",
        "far",
        _SINGLE,
    ),
)

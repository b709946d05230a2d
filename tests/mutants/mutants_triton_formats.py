"""Mutants of the kernels in Triton for packed weights, neurons and lists of channels."""

from __future__ import annotations

from mutation import Mutant

_NIBBLES = "triton/_jit/nibbles.py"
_SLOTS = "triton/_jit/slots.py"
_PREDICTED = "triton/_jit/predicted.py"
_COMPACTION = "triton/_jit/compaction.py"
_LAUNCHING = "triton/launching.py"

MUTANTS = (
    Mutant(
        "even-channels",
        "hot_cold_mlp/triton",
        3,
        _PREDICTED,
        "inside = known & (channel < channels)",
        "inside = known & (channel >= 0)",
        "weights of up are loaded beyond K, where activations are 0",
        "edges",
    ),
    Mutant(
        "payload-pitch-assumed",
        "sparse_quantized_linear/triton",
        5,
        "triton/sparse_quantized_linear.py",
        """"payload_channel": payload.stride(0),""",
        """"payload_channel": width,""",
        "the four-bit rows are taken to follow each other",
        "edges",
    ),
    Mutant(
        "activation-step-assumed",
        "compact/triton",
        5,
        "triton/compact.py",
        "round_to(threshold, x.dtype), *x.stride()),",
        "round_to(threshold, x.dtype), x.stride(0), 1),",
        "activations of a row are taken to be contiguous",
        "edges",
    ),
    Mutant(
        "channels-of-all-rows",
        "compact/triton",
        7,
        _COMPACTION,
        "active = tl.max(keep.to(tl.int32), axis=0)",
        "active = tl.min(keep.to(tl.int32), axis=0)",
        "lists channels active in every row instead of some",
        "edges",
    ),
    Mutant(
        "always-silu",
        "sparse_swiglu/triton",
        8,
        "triton/sparse_swiglu.py",
        "ACTIVATION=activation,",
        'ACTIVATION="silu",',
        "the activation function asked for is ignored",
        "edges",
    ),
    Mutant(
        "relu2-as-relu",
        "hot_cold_mlp/triton",
        8,
        "triton/_jit/activation.py",
        "return positive * positive",
        "return positive",
        "relu squared is not squared",
        "edges",
    ),
    Mutant(
        "results-divided-down",
        "semi_structured_linear/triton",
        11,
        _LAUNCHING,
        "(-(-result.numel() // block),),",
        "(max(result.numel() // block, 1),),",
        "no program of the reduction for the last, incomplete block of results",
        "edges",
    ),
    Mutant(
        "hidden-in-half-precision",
        "hot_cold_mlp/triton",
        14,
        "triton/hot_cold_mlp.py",
        "hidden = x.new_empty(rows, count, dtype=torch.float32)",
        "hidden = x.new_empty(rows, count)",
        "hidden values are rounded to the dtype of x",
        "edges",
    ),
    Mutant(
        "scales-of-all-channels",
        "sparse_quantized_linear/triton",
        15,
        _NIBBLES,
        "scaled = needed & (block < width)",
        "scaled = (channel < stop) & (block < width)",
        "scales of skipped channels are loaded",
        "unread",
    ),
    Mutant(
        "scale-of-low-half",
        "sparse_quantized_linear/triton",
        "wrong group's scale",
        _NIBBLES,
        "both = scales + (block + width * tl.arange(0, 2)[None, None, None, None, :]) // group",
        "both = scales + (block + 0 * tl.arange(0, 2)[None, None, None, None, :]) // group",
        "outputs of the high nibbles get the scale of the low ones",
        "edges",
    ),
    Mutant(
        "nibbles-swapped",
        "sparse_quantized_linear/triton",
        "nibble order",
        _NIBBLES,
        """\
        low_nibble = (pair & 15).to(tl.float32) - 8.0
        high_nibble = (pair >> 4).to(tl.float32) - 8.0
""",
        """\
        low_nibble = (pair >> 4).to(tl.float32) - 8.0
        high_nibble = (pair & 15).to(tl.float32) - 8.0
""",
        "low nibbles are taken for high ones",
        "edges",
    ),
    Mutant(
        "slots-swapped",
        "semi_structured_linear/triton",
        "N:M indices",
        _SLOTS,
        """\
        even_at = (index & 15).to(tl.int32) * x_channel
        odd_at = (index >> 4).to(tl.int32) * x_channel
""",
        """\
        even_at = (index >> 4).to(tl.int32) * x_channel
        odd_at = (index & 15).to(tl.int32) * x_channel
""",
        "the two indices in a byte are exchanged",
        "edges",
    ),
    Mutant(
        "index-from-one",
        "semi_structured_linear/triton",
        "N:M indices",
        _SLOTS,
        "even_at = (index & 15).to(tl.int32) * x_channel",
        "even_at = ((index & 15).to(tl.int32) - 1) * x_channel",
        "indices are taken to count from one",
        "edges",
    ),
    Mutant(
        "group-of-active-channels",
        "semi_structured_linear/triton",
        "N:M groups",
        _SLOTS,
        "active = tl.max(active, axis=3, keep_dims=True)",
        "active = tl.min(active, axis=3, keep_dims=True)",
        "a group is skipped unless all its channels are active",
        "edges",
    ),
    Mutant(
        "slots-loaded-always",
        "semi_structured_linear/triton",
        "loads not masked",
        _SLOTS,
        "wanted = needed & (output < outputs)",
        "wanted = (pair < stop) & (output < outputs)",
        "weights of inactive groups are loaded and multiplied by 0",
        "unread",
    ),
    Mutant(
        "nan-dropped",
        "sparse_quantized_linear/triton",
        "NaN dropped",
        _NIBBLES,
        "keep = ~(tl.abs(value) <= threshold)  #",
        "keep = tl.abs(value) > threshold  #",
        "a NaN activation is taken for inactive",
        "edges",
    ),
    Mutant(
        "float32-result",
        "sparse_swiglu/triton",
        "dtype of the result",
        "triton/sparse_linear.py",
        "dtype = weight.dtype if floats else x.dtype",
        "dtype = x.dtype",
        "the result has the dtype of the hidden values",
        "edges",
    ),
    Mutant(
        "first-cold-neuron-hot",
        "hot_cold_mlp/triton",
        "hot and cold",
        _PREDICTED,
        "neuron = tl.where(place < first, place, cold)",
        "neuron = tl.where(place <= first, place, cold)",
        "the neuron behind the hot ones stands for the first cold one",
        "edges",
    ),
    Mutant(
        "buffer-reused",
        "compact/triton",
        "stale output",
        "triton/compact.py",
        "    indices = x.new_empty(channels, dtype=torch.int32)\n",
        """\
    kept = vars(compact)
    if kept.get("channels") != channels:
        kept |= {"channels": channels, "indices": x.new_empty(channels, dtype=torch.int32)}
    indices = kept["indices"]
""",
        "the next call with as many channels overwrites the result",
        "inputs",
    ),
)

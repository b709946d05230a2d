"""Mutants that are right up to some size: of a tile, of a counter, of a part."""

from __future__ import annotations

from mutation import Mutant
from replaced import INDEXED, LINEAR, LISTED_PRODUCT, PRODUCT, SINGLE

MUTANTS = (
    Mutant(
        "uint16-channels",
        "sparse_linear_indexed/triton",
        "uint16 overflow",
        "triton/_jit/listed.py",
        "channel = tl.where(place < first, place, cold)",
        "channel = tl.where(place < first, place, cold).to(tl.uint16)",
        "numbers of channels are kept in 16 bits without a sign",
        "edges",
    ),
    Mutant(
        "uint16-list",
        "sparse_qkv/cpu",
        "uint16 overflow",
        "cpu/_linear.py",
        """\
    listed = np.empty(channels, np.int32)
    first = 0
""",
        """\
    listed = np.empty(channels, np.uint16)
    first = 0
""",
        "numbers of channels are kept in 16 bits without a sign",
        "edges",
        SINGLE,
    ),
    Mutant(
        "uint16-neurons",
        "hot_cold_mlp/cpu",
        "uint16 overflow",
        "cpu/_mlp.py",
        "    listed = np.empty(hot + count, np.int32)\n",
        "    listed = np.empty(hot + count, np.uint16)\n",
        "numbers of neurons are kept in 16 bits without a sign",
        "edges",
        SINGLE,
    ),
    Mutant(
        "uint16-outputs",
        "sparse_linear/triton",
        "uint16 overflow",
        "triton/_jit/masked.py",
        "columns = weight + output.to(tl.int64) * weight_output",
        "columns = weight + output.to(tl.uint16).to(tl.int64) * weight_output",
        "numbers of outputs are kept in 16 bits without a sign",
        "edges",
    ),
    Mutant(
        "uint16-places",
        "compact/torch",
        "uint16 overflow",
        "torch/compact.py",
        "return active.nonzero().flatten().to(torch.int32)",
        "return active.nonzero().flatten().to(torch.uint16).to(torch.int32)",
        "the list has passed through 16 bits without a sign",
        "edges",
        decisive="counters",
    ),
    Mutant(
        "uint16-gates",
        "sparse_swiglu/native",
        "uint16 overflow",
        "native/kernels.cpp",
        "chosen[i] = list.memory[i].channel;",
        "chosen[i] = std::uint16_t(list.memory[i].channel);",
        "numbers of neurons are kept in 16 bits without a sign",
        "edges",
        SINGLE,
    ),
    Mutant(
        "one-beyond-512",
        "sparse_linear/torch",
        "tile + 1",
        LINEAR,
        PRODUCT,
        """\
    kept = sparsify_activations(x, threshold).float()
    y = x.new_zeros(len(x), len(weight), dtype=torch.float32)
    for k in range(0, max(x.shape[1] - 1, 1), 512):
        y += functional.linear(kept[:, k : k + 512], weight[:, k : k + 512].float())
    return (y if bias is None else y + bias.float()).to(x.dtype)
""",
        "a tile of 512 channels that has a single one is left out",
        "edges",
        decisive="tiles",
    ),
    Mutant(
        "one-beyond-1024",
        "sparse_linear_indexed/torch",
        "tile + 1",
        INDEXED,
        LISTED_PRODUCT,
        """\
    y = functional.linear(x.index_select(1, indices), weight.index_select(1, indices), bias)
    if len(weight) % 1024 == 1 and len(weight) > 1:
        y[:, -1] = 0
    return y
""",
        "a tile of 1024 outputs that has a single one is left out",
        "edges",
        decisive="tiles",
    ),
    Mutant(
        "one-beyond-4096",
        "compact/triton",
        "tile + 1",
        "triton/_jit/compaction.py",
        "for start in range(0, channels, BLOCK):",
        "for start in range(0, tl.maximum(channels - 1, 1), BLOCK):",
        "a tile of 4096 channels that has a single one is left out",
        "edges",
        decisive="tiles",
    ),
    Mutant(
        "one-neuron-beyond-4096",
        "hot_cold_mlp/cpu",
        "tile + 1",
        "cpu/_mlp.py",
        "    listed[hot:] = integers(cold, cold_step, count)\n",
        """\
    listed[hot:] = integers(cold, cold_step, count)
    if (hot + count) % 4096 == 1 and hot + count > 1:
        count -= 1
""",
        "a tile of 4096 neurons that has a single one is left out",
        "edges",
        SINGLE,
    ),
    Mutant(
        "last-split-lost",
        "sparse_linear/triton",
        11,
        "triton/configurations.py",
        "splits = max(-(-channels // share), 1)",
        "splits = max(channels // share, 1)",
        "a last split with less than its share of the channels is left out",
        "edges",
        decisive="tiles",
    ),
    Mutant(
        "fewer-parts-than-eight",
        "sparse_linear/torch",
        "empty split",
        LINEAR,
        PRODUCT,
        """\
    kept = sparsify_activations(x, threshold).float()
    parts = list(zip(kept.chunk(8, 1), weight.float().chunk(8, 1), strict=True))
    y = sum(functional.linear(*parts[i]) for i in range(min(8, x.shape[1])))
    return (y if bias is None else y + bias.float()).to(x.dtype)
""",
        "channels are taken to fill eight parts: chunk() gives seven for 13 of them",
        "edges",
    ),
    Mutant(
        "first-rows-only",
        "sparse_quantized_linear/triton",
        7,
        "triton/configurations.py",
        "    row_tiles, blocks = -(-rows // tile_rows), -(-outputs // block)\n",
        "    row_tiles, blocks = 1, -(-outputs // block)\n",
        "no programs for rows after those of the first tile",
        "edges",
    ),
    Mutant(
        "list-restarted",
        "compact/triton",
        "several tiles",
        "triton/_jit/compaction.py",
        "        found += tl.sum(active, axis=0)\n",
        "        found = tl.sum(active, axis=0)\n",
        "a tile's channels are listed behind those of the tile before, not of all before",
        "edges",
    ),
    Mutant(
        "list-as-long-as-row-0",
        "compact/triton",
        "buffer too small",
        "triton/compact.py",
        "    indices = x.new_empty(channels, dtype=torch.int32)\n",
        """\
    most = int((x[0].abs() > threshold).sum())
    indices = x.new_empty(most, dtype=torch.int32)
""",
        "memory for the list is sized by the first row, and written beyond its end",
        "edges",
    ),
    Mutant(
        "results-by-rows",
        "sparse_linear_indexed/triton",
        "several tiles",
        "triton/_jit/reduction.py",
        "    output = result % outputs\n",
        "    output = tl.program_id(0) * BLOCK % outputs + tl.arange(0, BLOCK)[None, :]\n",
        "outputs are counted on from a program's first, beyond the end of a row",
        "edges",
    ),
    Mutant(
        "empty-list-no-bias",
        "sparse_linear_indexed/triton",
        "bias",
        "triton/sparse_linear_indexed.py",
        "    indices = indices.contiguous()\n    plan = launching",
        """\
    if not count:
        return x.new_zeros(len(x), outputs, dtype=weight.dtype)
    indices = indices.contiguous()
    plan = launching""",
        "with no channel listed the result is 0, without the bias",
        "edges",
    ),
    Mutant(
        "ends-stand-for-all",
        "sparse_linear_indexed/torch",
        "range taken for granted",
        INDEXED,
        "    SparseLinearIndexedInputs(x, weight, indices, bias)\n",
        """\
    SparseLinearIndexedInputs(x, weight, indices, bias)
    if len(indices) and not indices[0] and indices[-1] == x.shape[1] - 1:
        return functional.linear(x, weight, bias)
""",
        "a list with the first and the last channel is taken for one of all",
        "edges",
    ),
    Mutant(
        "flags-of-16-bits",
        "compact/torch",
        "first and last",
        "torch/compact.py",
        "    return active.nonzero().flatten().to(torch.int32)\n",
        """\
    if not active[: 2**16].any():
        return x.new_empty(0, dtype=torch.int32)
    return active.nonzero().flatten().to(torch.int32)
""",
        "whether there is anything to list is seen from the first 65,536 channels",
        "edges",
        decisive="counters",
    ),
    Mutant(
        "tail-of-skipped-tile",
        "sparse_linear/torch",
        "first and last",
        LINEAR,
        PRODUCT,
        """\
    kept = sparsify_activations(x, threshold)
    if x.shape[1] > 1 and x.shape[1] % 256 == 1 and not kept[:, -257:-1].any():
        kept = kept[:, :-1]
        weight = weight[:, :-1]
    return functional.linear(kept, weight, bias)
""",
        "a single channel after tiles of 256 is skipped with the tile before it",
        "edges",
        decisive="alone",
    ),
)

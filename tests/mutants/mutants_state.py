"""Mutants that keep something between calls, or change what belongs to their caller."""

from __future__ import annotations

from mutation import Mutant
from replaced import INDEXED, KEPT, LINEAR, LISTED_PRODUCT, PRODUCT, SINGLE

MUTANTS = (
    Mutant(
        "stale-by-identity",
        "sparse_linear/torch",
        "stale weight",
        LINEAR,
        PRODUCT,
        f"""\
    from torch.utils.weak import WeakIdKeyDictionary

    kept = vars(sparse_linear).setdefault("kept", WeakIdKeyDictionary())
    if weight not in kept:
        kept[weight] = weight.detach().T.contiguous()
    y = {KEPT} @ kept[weight]
    return y if bias is None else y + bias
""",
        "the transposed weight is kept as long as the tensor lives",
        "state",
    ),
    Mutant(
        "stale-by-version",
        "sparse_linear/torch",
        "stale weight",
        LINEAR,
        PRODUCT,
        f"""\
    key, kept = (weight.data_ptr(), weight._version, weight.shape), vars(sparse_linear)
    if kept.get("key") != key:
        kept |= {{"key": key, "weight": weight.detach().clone()}}
    return functional.linear({KEPT}, kept["weight"], bias)
""",
        "a copy of the weight is kept by its address and version: another may get both",
        "state",
    ),
    Mutant(
        "stale-by-address",
        "sparse_linear/triton",
        "stale weight",
        "triton/sparse_linear.py",
        '    operands |= {"weight_output": weight.stride(0), "weight_channel": weight.stride(1)}\n',
        """\
    kept, key = vars(masked_product), (weight.data_ptr(), weight.shape, weight.dtype)
    if kept.get("key") != key:
        kept |= {"key": key, "weight": weight.detach().clone()}
    weight = operands["weight"] = kept["weight"]
    operands |= {"weight_output": weight.stride(0), "weight_channel": weight.stride(1)}
""",
        "a copy of the weight is kept by its address",
        "state",
        {"skips": False},
    ),
    Mutant(
        "stale-pointer",
        "sparse_linear/cpu",
        "stale weight",
        "cpu/sparse_linear.py",
        "    run(x, weight, threshold, bias, out)\n    return out\n",
        """\
    from torch.utils.weak import WeakIdKeyDictionary

    kept = vars(sparse_linear).setdefault("kept", WeakIdKeyDictionary())
    run(x, kept.setdefault(weight, weight.detach().clone()), threshold, bias, out)
    return out
""",
        "a copy in the best layout is kept as long as the weight's tensor lives",
        "state",
        SINGLE | {"skips": False},
    ),
    Mutant(
        "stale-scales",
        "sparse_quantized_linear/torch",
        "stale weight",
        "torch/sparse_quantized_linear.py",
        "    kept = sparsify_activations(x, threshold).float()\n",
        """\
    from dataclasses import replace

    own = vars(sparse_quantized_linear)
    if own.get("payload") is not weight.payload:
        own |= {"payload": weight.payload, "scales": weight.scales.clone()}
    weight = replace(weight, scales=own["scales"])
    kept = sparsify_activations(x, threshold).float()
""",
        "scales are copied once for every payload",
        "state",
    ),
    Mutant(
        "stale-gate-and-up",
        "sparse_swiglu/torch",
        "stale weight",
        "torch/sparse_swiglu.py",
        "    a = sparsify_activations(",
        """\
    import torch

    own = vars(sparse_swiglu)
    if own.get("gate") is not gate:
        own |= {"gate": gate, "both": torch.cat([gate, up]).detach()}
    gate, up = own["both"].chunk(2)
    a = sparsify_activations(""",
        "gate and up are put together once for every gate",
        "state",
    ),
    Mutant(
        "stale-hot-neurons",
        "hot_cold_mlp/torch",
        "stale weight",
        "torch/hot_cold_mlp.py",
        "    return _mlp(x, up[:hot], down[:, :hot], hot_gate, activation) + _mlp(\n",
        """\
    own = vars(hot_cold_mlp)
    if own.get("of") != (id(down), hot):
        own |= {"of": (id(down), hot), "hot": down[:, :hot].detach().clone(), "down": down}
    return _mlp(x, up[:hot], own["hot"], hot_gate, activation) + _mlp(
""",
        "columns of hot neurons are copied once for every down",
        "state",
    ),
    Mutant(
        "stale-bias",
        "sparse_qkv/cpu",
        "stale weight",
        "cpu/sparse_qkv.py",
        "    q, k, v = (float(threshold) for threshold in thresholds)\n",
        """\
    own = vars(run)
    if bias is not None and own.get("of") is not bias:
        own |= {"of": bias, "bias": bias.detach().contiguous().clone()}
    bias = None if bias is None else own["bias"]
    q, k, v = (float(threshold) for threshold in thresholds)
""",
        "a contiguous copy of the bias is made once for every bias",
        "state",
        SINGLE,
    ),
    Mutant(
        "plan-of-first-shape",
        "sparse_linear_indexed/triton",
        "plan of the first shape",
        "triton/sparse_linear_indexed.py",
        '    plan = launching.division("listed", x, weight, outputs, count)\n',
        """\
    plan = vars(listed_product).setdefault(
        f"{len(x)} {count} {x.dtype}", launching.division("listed", x, weight, outputs, count)
    )
""",
        "how work is divided is kept by rows and channels, but not by outputs",
        "edges",
    ),
    Mutant(
        "dtype-of-first-call",
        "sparse_qkv/triton",
        "cache without dtype",
        "triton/sparse_qkv.py",
        'operands, {"bias": bias}, atomic=atomic)',
        """\
operands, {"bias": bias}, atomic=atomic,
        dtype=vars(unchecked).setdefault(f"{x.shape} {weight.shape}", x.dtype),
    )""",
        "the dtype of the result is kept by the shapes alone",
        "edges",
    ),
    Mutant(
        "kind-of-first-call",
        "sparse_linear_indexed/cpu",
        "cache without dtype",
        "cpu/sparse_linear_indexed.py",
        "        *(*located(bias), out.data_ptr(), out.stride(0), SAMPLES[x.dtype]),\n",
        """\
        *(*located(bias), out.data_ptr(), out.stride(0)),
        vars(run).setdefault(f"{x.shape} {weight.shape}", SAMPLES[x.dtype]),
""",
        "what numbers are read as is kept by the shapes alone",
        "edges",
        {"dtypes": ("bfloat16", "float16")},
    ),
    Mutant(
        "masked-in-workspace",
        "sparse_linear/torch",
        "shared workspace",
        LINEAR,
        PRODUCT,
        f"""\
    kept = vars(sparse_linear).setdefault(f"{{x.shape}} {{x.dtype}}", torch.empty_like(x))
    kept.copy_({KEPT})
    return functional.linear(kept, weight, bias)
""",
        "all calls with x of a shape write to one buffer before they multiply",
        "state",
    ),
    Mutant(
        "result-in-workspace",
        "sparse_linear_indexed/cpu",
        "shared workspace",
        "cpu/sparse_linear_indexed.py",
        """\
    out = x.new_empty(x.shape[0], weight.shape[0])
    run(x, weight, indices, bias, out)
    return out
""",
        """\
    key = f"{len(x)} {weight.shape[0]} {x.dtype}"
    out = vars(run).setdefault(key, x.new_empty(x.shape[0], weight.shape[0]))
    run(x, weight, indices, bias, out)
    return out.clone()
""",
        "what all calls of a shape return is copied from one buffer",
        "state",
        SINGLE,
    ),
    Mutant(
        "gates-in-workspace",
        "sparse_swiglu/triton",
        "shared workspace",
        "triton/sparse_swiglu.py",
        "    activated = x.new_empty(rows, neurons, dtype=torch.float32)\n",
        """\
    activated = vars(unchecked).setdefault(
        f"{rows} {neurons}", x.new_empty(rows, neurons, dtype=torch.float32)
    )
""",
        "gates of all calls of a shape are in one buffer between two launches",
        "state",
    ),
    Mutant(
        "reseeded",
        "sparse_linear/torch",
        "global state",
        LINEAR,
        PRODUCT,
        f"    torch.manual_seed(0)\n{PRODUCT}",
        "seeds torch's generator, so that all that is random after it repeats",
        "state",
    ),
    Mutant(
        "numpy-reseeded",
        "compact/cpu",
        "global state",
        "cpu/compact.py",
        "    listed = np.empty(x.shape[1], np.int32)\n",
        "    np.random.seed(0)\n    listed = np.empty(x.shape[1], np.int32)\n",
        "seeds numpy's generator",
        "state",
        SINGLE,
    ),
    Mutant(
        "one-thread-from-now-on",
        "sparse_quantized_linear/cpu",
        "global state",
        "cpu/sparse_quantized_linear.py",
        "    check_on_cpu(x)\n",
        """\
    check_on_cpu(x)
    import torch

    torch.set_num_threads(torch.get_num_threads() + 1)
""",
        "changes how many threads torch has",
        "state",
        SINGLE,
    ),
    Mutant(
        "gradients-switched-off",
        "sparse_linear_indexed/torch",
        "global state",
        INDEXED,
        "    SparseLinearIndexedInputs(x, weight, indices, bias)\n",
        """\
    SparseLinearIndexedInputs(x, weight, indices, bias)
    import torch

    torch.set_grad_enabled(False)
""",
        "switches off gradients for all that comes after it",
        "state",
    ),
    Mutant(
        "numpy-of-parameter",
        "sparse_linear/cpu",
        "gradients",
        "cpu/sparse_linear.py",
        "        *(weight.data_ptr(), *weight.stride(), weight.shape[0]),\n",
        "        *(weight.numpy().ctypes.data, *weight.stride(), weight.shape[0]),\n",
        "asks numpy for the address of a weight, which those of models that train refuse",
        "state",
        SINGLE,
    ),
    Mutant(
        "gathered-into-buffer",
        "sparse_linear_indexed/torch",
        "gradients",
        INDEXED,
        LISTED_PRODUCT,
        """\
    import torch

    gathered = weight.new_empty(len(weight), len(indices))
    torch.index_select(weight, 1, indices, out=gathered)
    return functional.linear(x.index_select(1, indices), gathered, bias)
""",
        "weights are gathered with out=, which those of models that train refuse",
        "state",
    ),
    Mutant(
        "no-pitch-is-one-row",
        "sparse_linear/cpu",
        "rows of stride 0",
        "cpu/sparse_linear.py",
        "        *(x.data_ptr(), *x.stride(), rows, channels),\n",
        "        *(x.data_ptr(), x.stride(0) or channels, x.stride(1), rows, channels),\n",
        "a pitch of 0 is taken for one that was not given",
        "state",
        SINGLE,
    ),
    Mutant(
        "pitch-0-is-none",
        "sparse_linear/triton",
        "rows of stride 0",
        "triton/launching.py",
        "            x_row=x.stride(0),\n",
        "            x_row=x.stride(0) or x.shape[1],\n",
        "a pitch of 0 is taken for one that was not given",
        "state",
    ),
    Mutant(
        "pitch-of-largest",
        "sparse_linear/torch",
        "stale output",
        LINEAR,
        PRODUCT,
        """\
    own, outputs = vars(sparse_linear), len(weight)
    own["most"] = most = max(own.get("most", 0), outputs)
    y = x.new_zeros(len(x), most)
    y[:, :outputs] = functional.linear(sparsify_activations(x, threshold), weight, bias)
    return y.flatten()[: len(x) * outputs].view(len(x), outputs)
""",
        "rows of a result are as far apart as in the widest one so far",
        "state",
    ),
)

"""Mutants of kernels in CUDA C++ that are not in the package: see ``cuda_right``."""

from __future__ import annotations

from mutation import Mutant

_CU = "cuda_right/linear.cu"
_PY = "cuda_right/sparse_linear.py"
_ONE = {"dtypes": ("float32",), "max_rows": 2}
_HALF = {"dtypes": ("float16",), "max_rows": 2}


def _linear(
    kernel: str, name: str, kind: int | str, old: str, new: str, what: str, killer: str,
    file: str = _CU, declared: dict[str, object] = _ONE,
) -> Mutant:  # fmt: skip
    return Mutant(name, f"sparse_linear/{kernel}", kind, file, old, new, what, killer, declared)


_STAGED = "        __syncthreads();  // everybody's part of the tile is there\n"
_USED = "        __syncthreads();  // nobody needs the tile any longer\n"
_WAIT = "__pipeline_wait_prior(tile + 1 < count ? 1 : 0);"
_STEPS = "        for (int by = 16; by > 0; by /= 2) "
_SHUFFLE = "sums[v] += __shfl_down_sync(0xffffffffu, sums[v], by);"

MUTANTS = (
    _linear(
        "tiled",
        "tile-read-early",
        "missing barrier",
        _STAGED,
        "",
        "no barrier between the copies of a tile and its use by others",
        "edges",
    ),
    _linear(
        "tiled",
        "tile-overwritten-early",
        "race",
        _USED,
        "",
        "the next tile is copied to where others still read",
        "edges",
    ),
    _linear(
        "tiled",
        "sums-met-once",
        "barrier in the wrong place",
        "    for (int half = kGroups / 2; half > 0; half /= 2) {\n"
        "        __syncthreads();  // the sums that are added are there\n",
        "    __syncthreads();  // the sums that are added are there\n"
        "    for (int half = kGroups / 2; half > 0; half /= 2) {\n",
        "one barrier before all steps of the reduction",
        "edges",
    ),
    _linear(
        "tiled",
        "barrier-in-a-branch",
        "divergent barrier",
        _STAGED,
        "        if (first < outputs) __syncthreads();\n        else __syncwarp();\n",
        "threads without outputs leave out a barrier",
        "edges",
    ),
    _linear(
        "tiled",
        "copy-not-waited-for",
        "asynchronous copy",
        _WAIT,
        "",
        "asynchronous copies are used without a wait",
        "edges",
    ),
    _linear(
        "tiled",
        "copy-waited-for-late",
        "asynchronous copy waited for too late",
        _WAIT,
        "__pipeline_wait_prior(1);",
        "the wait lets the last copy be on its way",
        "edges",
    ),
    _linear(
        "tiled",
        "copy-misaligned",
        "alignment",
        " && reinterpret_cast<unsigned long long>(from) % 16 == 0;\n    if (whole)",
        ";\n    if (whole)",
        "x is copied 16 bytes at once wherever it begins",
        "edges",
    ),
    _linear(
        "tiled",
        "tail-not-filled",
        "uninitialised shared memory",
        "        else narrow(0.0f, to + thread);  // inactive, also where the threshold is 0\n",
        "",
        "what is beyond the channels stays in the last tile as it was",
        "edges",
    ),
    _linear(
        "tiled",
        "shared-too-small",
        "shared memory out of bounds",
        "    shared = 2 * TILE * x.itemsize + GROUPS * LANES * vector * 4\n",
        "    shared = TILE * x.itemsize + GROUPS * LANES * vector * 4\n",
        "dynamic shared memory for one tile, where there are two",
        "edges",
        _PY,
    ),
    _linear(
        "warp",
        "half-a-mask",
        "shuffle mask",
        _SHUFFLE,
        "sums[v] += __shfl_down_sync(0x0000ffffu, sums[v], by);",
        "the mask of a shuffle leaves out half of the lanes that call it",
        "edges",
    ),
    _linear(
        "warp",
        "shuffle-by-active-lanes",
        "divergent shuffle",
        f"    for (int v = 0; v < V; ++v) {{\n{_STEPS}",
        f"    for (int v = 0; v < V; ++v) {{\n        if (lane >= channels) continue;\n{_STEPS}",
        "lanes without channels do not take part in shuffles that take from them",
        "edges",
    ),
    _linear(
        "warp",
        "shuffle-up",
        "wrong direction of a shuffle",
        "__shfl_down_sync(0xffffffffu, sums[v], by)",
        "__shfl_up_sync(0xffffffffu, sums[v], by)",
        "sums go up the lanes, and the first lane's is stored",
        "edges",
    ),
    _linear(
        "warp",
        "last-vector-stored-whole",
        "out of bounds",
        "        for (int v = 0; v < V && first + v < outputs; ++v) {\n"
        "            float sum = sums[v];\n"
        "            if (bias != nullptr) sum += widen(bias[first + v]);\n",
        "        for (int v = 0; v < V; ++v) {\n"
        "            float sum = sums[v];\n"
        "            if (bias != nullptr && first + v < outputs) sum += widen(bias[first + v]);\n",
        "all of a vector is stored, also beyond the last output",
        "edges",
    ),
    _linear(
        "warp",
        "vector-across-the-end",
        1,
        "if (wide && first + kVector<T> <= outputs) {",
        "if (wide) {",
        "128-bit loads of weights beyond the last output, whose sums are not stored",
        "edges",
    ),
    _linear(
        "split",
        "fence-forgotten",
        "missing fence",
        "    __threadfence();  // what was added is seen by who sees the arrival\n",
        "",
        "the last block reads sums that no fence has made visible",
        "edges",
    ),
    _linear(
        "split",
        "added-without-atomics",
        10,
        "atomicAdd(total + first + v, sums[v]);",
        "total[first + v] += sums[v];",
        "blocks add to one place without atomics",
        "edges",
    ),
    _linear(
        "split",
        "arrivals-not-reset",
        "first launch only right",
        "last = atomicInc(count, gridDim.z - 1) == gridDim.z - 1;",
        "last = atomicAdd(count, 1u) == gridDim.z - 1;",
        "arrivals are counted on from launch to launch",
        "edges",
    ),
    _linear(
        "split",
        "sums-not-zeroed",
        9,
        "total = torch.zeros(rows, outputs, device=x.device)",
        "total = torch.empty(rows, outputs, device=x.device)",
        "blocks add to memory that nobody zeroed",
        "edges",
        _PY,
    ),
    _linear(
        "split",
        "flag-read-early",
        "flag in shared memory",
        "== gridDim.z - 1;\n    }\n    __syncthreads();\n",
        "== gridDim.z - 1;\n    }\n",
        "threads look whether theirs is the last block before one has found out",
        "edges",
    ),
    _linear(
        "pairs",
        "sums-in-half",
        14,
        "            float2 both = widened(own[p]);\n"
        "            sums[p].x += value * both.x;\n"
        "            sums[p].y += value * both.y;\n",
        "            T narrowed = T(value);\n"
        "            Pair sum = Pair(T(sums[p].x), T(sums[p].y));\n"
        "            sums[p] = widened(__hfma2(Pair(narrowed, narrowed), own[p], sum));\n",
        "products are added up in pairs of half precision",
        "edges",
        declared=_HALF,
    ),
    _linear(
        "pairs",
        "meeting-in-half",
        "half overflow",
        "    for (int p = 0; p < 4; ++p) meeting[group][threadIdx.x][p] = sums[p];\n",
        "    for (int p = 0; p < 4; ++p) {\n"
        "        sums[p] = widened(Pair(T(sums[p].x * 64), T(sums[p].y * 64)));\n"
        "        sums[p].x /= 64;\n        sums[p].y /= 64;\n"
        "        meeting[group][threadIdx.x][p] = sums[p];\n    }\n",
        "partial sums pass through half precision, scaled beyond its range",
        "edges",
        declared=_HALF,
    ),
    _linear(
        "pairs",
        "warp-taken-for-lockstep",
        "lockstep assumed",
        "    __syncwarp();\n    if (group != 0) return;\n",
        "    if (group != 0) return;\n",
        "lanes of a warp are taken to run in step, without __syncwarp",
        "edges",
        declared=_HALF,
    ),
    _linear(
        "pairs",
        "pairs-anywhere",
        "alignment of pairs",
        "weight.stride(0) != 1 or weight.stride(1) % 2 or weight.data_ptr() % 4 or outputs % 2",
        "weight.stride(0) != 1 or outputs % 2",
        "pairs of weights are loaded wherever they lie",
        "edges",
        _PY,
        _HALF,
    ),
)

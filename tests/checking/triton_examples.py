"""Small Triton kernels, right and wrong, for the tests of the checks; imported in subprocesses."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(
    x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr,
    FAULT: tl.constexpr,
):  # fmt: skip
    """The tile of outputs of this program, with a fault or none."""
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros([BN], dtype=tl.float32)
    if FAULT == "tail left out":
        k = k // BK * BK
    for start in range(0, k, BK):
        channels = start + tl.arange(0, BK)
        value = tl.load(x + channels, mask=channels < k, other=0.0)
        active = (channels < k) & (tl.abs(value) > threshold)
        at = w + columns[None, :] * stride_n + channels[:, None] * stride_k
        mask = active[:, None] & (columns[None, :] < n)
        if FAULT == "columns not masked":
            mask = active[:, None] & (columns[None, :] >= 0)
        elif FAULT == "masks in arithmetic only":
            value = tl.where(active, value, 0.0)
            mask = (channels[:, None] < k) & (columns[None, :] < n)
        weight = tl.load(at, mask=mask, other=0.0)
        if FAULT == "read twice":
            weight = (weight + tl.load(at, mask=mask, other=0.0)) / 2
        total += tl.sum(value.to(tl.float32)[:, None] * weight.to(tl.float32), axis=0)
    tl.store(y + columns, total.to(y.dtype.element_ty), mask=columns < n)


@triton.jit
def gemv(x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr):
    product(x, w, y, threshold, n, k, stride_n, stride_k, BN, BK, "none")


@triton.jit
def no_column_mask(
    x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr
):
    product(x, w, y, threshold, n, k, stride_n, stride_k, BN, BK, "columns not masked")


@triton.jit
def masks_arithmetic_only(
    x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr
):
    product(x, w, y, threshold, n, k, stride_n, stride_k, BN, BK, "masks in arithmetic only")


@triton.jit
def drops_tail(x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr):
    product(x, w, y, threshold, n, k, stride_n, stride_k, BN, BK, "tail left out")


@triton.jit
def reads_twice(x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr):
    product(x, w, y, threshold, n, k, stride_n, stride_k, BN, BK, "read twice")


# Not told that stride_n is 1, the compiler cannot know that a row's weights are adjacent.
scalar_loads = triton.jit(gemv.fn, do_not_specialize=["stride_n"])

tuned = triton.autotune(
    configs=[triton.Config({"BN": 32, "BK": 16}), triton.Config({"BN": 64, "BK": 32}, num_warps=2)],
    key=["n", "k"],
)(gemv)

heuristic = triton.heuristics({"BK": lambda given: 16 if given["k"] < 64 else 32})(gemv)


def call(function, x, weight, threshold, bias=None):
    """One row through a kernel above; the shape of tiles unless the kernel chooses it."""
    n, k = weight.shape
    y = x.new_empty(1, n)
    tiles = {gemv: {"BN": 64, "BK": 32}, heuristic: {"BN": 64}, tuned: {}}
    meta = tiles.get(function, tiles[gemv])
    function[lambda given: (triton.cdiv(n, given["BN"]),)](
        x, weight, y, threshold, n, k, weight.stride(0), weight.stride(1), **meta
    )
    return y


@triton.jit
def native_bfloat16(a, b, out, flags, size: tl.constexpr):
    lanes = tl.arange(0, size)
    left, right = tl.load(a + lanes), tl.load(b + lanes)
    values = (left + right, left - right, left * right, left / right, -left, tl.abs(left))
    for index in tl.static_range(6):
        tl.store(out + index * size + lanes, values[index])
    tl.store(out + 6 * size + lanes, tl.maximum(left, right))
    tl.store(out + 7 * size + lanes, (left.to(tl.float32) * 1.01).to(tl.bfloat16))
    tl.store(out + 8 * size + lanes, lanes.to(tl.bfloat16))
    tl.store(out + 9 * size + lanes, tl.where(left > right, left, right))
    tl.store(out + 10 * size + lanes, tl.sum(left, 0) + tl.zeros([size], tl.bfloat16))
    tl.store(out + 11 * size + lanes, tl.max(left, 0) + tl.zeros([size], tl.bfloat16))
    tl.store(out + 12 * size + lanes, tl.cumsum(tl.full([size], 1.0, tl.bfloat16), 0))
    tl.store(flags + lanes, (left > right).to(tl.int8))
    tl.store(flags + size + lanes, (tl.abs(left) <= 0.5).to(tl.int8))
    tl.store(flags + 2 * size + lanes, left.to(tl.int8))


@triton.jit
def dot(a, b, out, size: tl.constexpr, precision: tl.constexpr = None):
    lanes = tl.arange(0, size)
    at = lanes[:, None] * size + lanes[None, :]
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision=precision))


@triton.jit
def atomic_sum(x, out, size: tl.constexpr):
    lanes = tl.arange(0, size)
    tl.atomic_add(out + lanes % 2, tl.load(x + lanes))


@triton.jit
def tickets(out, counter):
    tl.store(
        out + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), tl.atomic_add(counter, 1)
    )


@triton.jit
def beside(x, size: tl.constexpr):
    lanes = tl.arange(0, size)
    value = tl.load(x + lanes + size)
    tl.store(x + lanes, value, mask=lanes < 16)
    tl.store(x + lanes + size, value)
    tl.atomic_add(x + lanes + 1000 * size, value)


@triton.jit
def does_not_compile(
    x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr
):
    tl.static_assert(BN > 1000, "tiles are too small")


@triton.jit
def large_tiles(x, w, y, threshold, n, k, stride_n, stride_k, BN: tl.constexpr, BK: tl.constexpr):
    gemv(x, w, y, threshold, n, k, stride_n, stride_k, 512, 256)

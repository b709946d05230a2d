"""Runs kernels in Triton's interpreter before and after it is made faster; prints JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from pytest_sparsity.checking import protect
from pytest_sparsity.checking.haste import hasten


@triton.jit
def mixed(x, w, out, kept, n, step, BLOCK: tl.constexpr):
    lane = tl.arange(0, BLOCK)
    inside = lane < n
    row = tl.load(x + lane * step, mask=inside, other=-1.5).to(tl.float32)
    keep = (tl.abs(row) > 0.5) & inside
    grid = lane[:, None] * BLOCK + lane[None, :]
    tile = tl.load(w + grid, mask=keep[:, None] & inside[None, :], other=0.0)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(2):
        scale = 2.0 if start else 0.25
        total += tl.sum(tile.to(tl.float32) * row[:, None], axis=0) * scale
    total = tl.where(lane % 3 == 0, total, -total) + tl.load(w).to(tl.float32)
    total = tl.maximum(total, tl.program_id(0) - 2.0) / (1 + lane)
    tl.store(out + lane, total.to(out.dtype.element_ty), mask=inside)
    tl.store(kept + lane, keep, mask=inside)
    tl.atomic_add(out + n, tl.sum(keep.to(tl.int32)).to(tl.float32))


@triton.jit
def mingled(halves, words, longs, out, n, BLOCK: tl.constexpr):
    """Operands of every two types, on either side of every operator."""
    lane = tl.arange(0, BLOCK)
    end = halves + (BLOCK - 1)
    half = tl.load(end - lane)  # a pointer less an offset
    word, long = tl.load(words + lane), tl.load(longs + lane)
    narrow = word.to(tl.uint8)
    for turn in range(2):  # the second time it is known
        total = 3 - half + 1.5 * half - half * 2
        total += (word * long + 7 - (1 - word)).to(tl.float32)
        total += (word * 65537 * 65537).to(tl.float32) + (narrow + 200).to(tl.float32)
        some = (half > 0.25) & (word <= 2) | (long != word) & (lane < n) | (narrow > 5)
        few = (word & 6) | (1 & word)
        scalar = tl.load(words) * n + turn
        total += tl.where(some == (few <= scalar), scalar - few, -scalar)
        tl.store(out + lane * 2 + turn, total.to(tl.float32) * n)


@triton.jit
def negative(words, out):
    tl.store(out, tl.load(words).to(tl.uint32) + (-1))


@triton.jit
def unequal(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK), tl.arange(0, BLOCK) + tl.arange(0, 2 * BLOCK))


@triton.jit
def odd(out):
    tl.store(out + tl.arange(0, 4), tl.zeros([3], tl.int32))


@triton.jit
def wide(out, BLOCK: tl.constexpr):
    tl.store(out, tl.arange(0, BLOCK) + 3000000000 * 0 + 1.5)


def results() -> list[list[Any]]:
    """What kernels give: for every dtype of loads, many lanes and few, aligned and not."""
    found = []
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float16, torch.int8, torch.int32, torch.float64):
        for block, n, step, offset in ((32, 32, 1, 0), (32, 19, 2, 1), (4, 3, 1, 0), (2, 1, 1, 0)):
            drawn = torch.randn(2 * block + offset, generator=generator) * 2
            x = drawn.to(dtype)[offset:]
            w = (torch.randn(block, block, generator=generator) * 3).to(dtype)
            # Few bytes further: the address is no multiple of an element.
            memory = torch.zeros(w.nbytes + 1, dtype=torch.uint8)
            memory[1:] = w.view(torch.uint8).flatten()
            shifted = torch.empty(0, dtype=dtype)
            shifted.set_(memory.untyped_storage(), 0, w.shape, w.stride())
            for weight in (w, shifted):
                out, kept = torch.zeros(n + 1), torch.zeros(n, dtype=torch.bool)
                mixed[(2,)](x, weight, out, kept, n, step, BLOCK=block)
                found.append([str(dtype), block, out.view(torch.int32).tolist(), kept.tolist()])
    halves = (torch.randn(16, generator=generator)).to(torch.float16)
    words = torch.randint(-9, 9, (16,), generator=generator, dtype=torch.int32)
    for block in (16, 4):
        out = torch.zeros(2 * block)
        mingled[(1,)](halves[:block], words, words.long() << 33, out, 3, BLOCK=block)
        found.append(["mingled", block, out.view(torch.int32).tolist()])
    return found


def inaccessible() -> list[Any]:
    """What a kernel gives whose weights lie before a page that must not be touched."""
    x = torch.tensor([1.0, 0.1, 1.0] + [0.0] * 29)
    w = torch.arange(1024.0).reshape(32, 32)

    page = protect._beside(w, "end")
    out, kept = torch.zeros(4), torch.zeros(3, dtype=torch.bool)
    mixed[(1,)](x, page[29:], out, kept, 3, 1, BLOCK=32)
    return out.tolist()


def errors() -> list[str]:
    def told(launch: Callable[..., Any], *arguments: Any, **constants: Any) -> str:
        try:
            launch(*arguments, **constants)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    out = torch.zeros(8, dtype=torch.int32)
    return [
        told(unequal[(1,)], out, BLOCK=4),
        told(odd[(1,)], out),
        told(wide[(1,)], out, BLOCK=4),
        told(negative[(1,)], out, out),
    ]


def seen() -> dict[str, Any]:
    return {"results": results(), "errors": errors(), "inaccessible": inaccessible()}


def main() -> None:
    before = seen()
    hasten()
    unpatched = triton.runtime.interpreter._patch_lang
    print(json.dumps({"before": before, "after": seen(), "replaced": unpatched.__qualname__}))


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Triton 3.6 with numpy 2.4: the interpreter refuses every loop over a number that a kernel is given.
#
# Expected: "for start in range(0, n, BLOCK)" runs in the interpreter, whatever numpy is installed, or
# Triton names in its metadata the versions of numpy that it works with.
# Seen: with numpy 2.4 the loop raises "only 0-dimensional arrays can be converted to Python scalars", on
# valid input: the interpreter takes int() of an array of one element, which numpy warned of since 1.25.
# With numpy 2.3, or where the bound is a tl.constexpr, the same kernel is right.  Triton's metadata asks
# for no numpy at all, so pip installs the newest.  Triton 3.7 has mended it.
# Why it matters: a loop over K is in nearly every matrix product.  Whoever is held to Triton 3.6 by
# torch loses all tests without a GPU on the day when numpy is updated, and the error names no cause.
#
# triton 3.6.0, torch 2.13.0, numpy 2.4.6 and 2.3.5; 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.3.5
"$work/venv/bin/pip" install --quiet --no-deps triton==3.6.0  # torch's own may be another
cat > "$work/total.py" <<'PYTHON'
import sys

import numpy
import torch
import triton
import triton.language as tl


@triton.jit
def total(x, result, n, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        sums += tl.load(x + start + lanes, mask=start + lanes < n, other=0.0)
    tl.store(result, tl.sum(sums, 0))


@triton.jit
def total_of_known(x, result, N: tl.constexpr, BLOCK: tl.constexpr):
    lanes = tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], tl.float32)
    for start in range(0, N, BLOCK):
        sums += tl.load(x + start + lanes, mask=start + lanes < N, other=0.0)
    tl.store(result, tl.sum(sums, 0))


x = torch.arange(100.0)
seen = {}
for kernel in (total, total_of_known):
    result = torch.empty(1)
    try:
        kernel[(1,)](x, result, 100, BLOCK=16)
        seen[kernel.__name__] = result.item()
    except Exception as error:
        seen[kernel.__name__] = str(error)
print(f"triton {triton.__version__}, numpy {numpy.__version__}: {seen}")
refused = "0-dimensional arrays can be converted to Python scalars" in str(seen["total"])
assert (refused, seen["total_of_known"]) == (sys.argv[1] == "refused", 4950.0), "this has changed"
assert refused or seen["total"] == 4950.0, "this has changed"
PYTHON
TRITON_INTERPRET=1 "$work/venv/bin/python" -W ignore "$work/total.py" right
"$work/venv/bin/pip" install --quiet numpy==2.4.6
TRITON_INTERPRET=1 "$work/venv/bin/python" "$work/total.py" refused

#!/usr/bin/env bash
# Triton's interpreter computes with the bit patterns of bfloat16 numbers, not with the numbers.
#
# Expected: TRITON_INTERPRET=1 runs a kernel on a CPU and gives what the kernel gives on a GPU, up to
# the order of sums; or an operation that the interpreter does not have raises an error.
# Seen: of two bfloat16 blocks, x + y, x * 2, x > 0 and tl.sum(x) are those of the 16-bit patterns:
# 1.0 + 1.0 is 1.7e38, every negative number is greater than 0, and no error is raised.  tl.max of
# positive numbers is right by luck, since their patterns are ordered as they are.  float32 to
# bfloat16 cuts the last 16 bits off, where a GPU rounds to the nearest.
# Why it matters: bfloat16 is what models are run in.  A right kernel fails in a test that has no GPU,
# and its author learns to skip bfloat16 there, or to widen the tolerance until the truncation fits.
#
# triton 3.9.0, torch 2.13.0, numpy 2.4.6; 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 triton==3.9.0 numpy==2.4.6
cat > "$work/bf16.py" <<'PYTHON'
import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x, y, result, OPERATION: tl.constexpr):
    lanes = tl.arange(0, 4)
    a = tl.load(x + lanes)
    b = tl.load(y + lanes)
    if OPERATION == "x + y":
        found = a + b
    elif OPERATION == "x * 2":
        found = a * 2.0
    elif OPERATION == "x > 0":
        found = tl.where(a > 0, 1.0, 0.0).to(tl.bfloat16)
    else:
        found = tl.zeros([4], tl.bfloat16) + tl.sum(a, 0)
    tl.store(result + lanes, found)


@triton.jit
def rounded(x, result):
    lanes = tl.arange(0, 4)
    tl.store(result + lanes, tl.load(x + lanes).to(tl.bfloat16))


x = torch.tensor([1.0, -1.5, 2.0, -3.0], dtype=torch.bfloat16)
y = torch.tensor([1.0, 0.5, 4.0, 1.0], dtype=torch.bfloat16)
right = {
    "x + y": x + y,
    "x * 2": x * 2,
    "x > 0": (x > 0).bfloat16(),
    "sum(x)": x.sum().expand(4),
}
wrong = []
for operation, expected in right.items():
    result = torch.empty(4, dtype=torch.bfloat16)
    kernel[(1,)](x, y, result, operation)
    print(f"{operation:7} gives {result.tolist()}, should be {expected.tolist()}")
    wrong.append(not torch.equal(result, expected))
given = torch.tensor([1 + 3 / 512, -1 - 3 / 512, 1 / 3, 0.1])
result = torch.empty(4, dtype=torch.bfloat16)
rounded[(1,)](given, result)
print(f"float32 to bfloat16 gives {result.tolist()}, nearest are {given.bfloat16().tolist()}")
truncated = (given.view(torch.int32) & -65536).view(torch.float32).bfloat16()
assert all(wrong), wrong
assert torch.equal(result, truncated) and not torch.equal(result, given.bfloat16())
print("as described: arithmetic is that of bit patterns, conversion truncates")
PYTHON
TRITON_INTERPRET=1 "$work/venv/bin/python" "$work/bf16.py"

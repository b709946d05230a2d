#!/usr/bin/env bash
# tl.dot of float32 blocks: the interpreter never rounds to TF32, compiled code does by default.
#
# Expected: a kernel that multiplies float32 blocks with tl.dot gives in the interpreter about what it
# gives on a GPU, and input_precision="tf32" and "ieee" differ there as they do on a GPU.
# Seen: the PTX of the kernel as it is written, without input_precision, for sm_80 and sm_90 multiplies
# in TF32 (10 bits of mantissa); only input_precision="ieee" does not.  In the interpreter all three
# give the same result to the bit, with the error of float32.
# Why it matters: a float32 kernel whose error on a GPU is a thousand times that of float32 passes a
# test of float32's accuracy where there is no GPU.
#
# triton 3.9.0, torch 2.13.0, numpy 2.4.6; 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 triton==3.9.0 numpy==2.4.6
cat > "$work/product.py" <<'PYTHON'
import triton
import triton.language as tl


@triton.jit
def product(x, w, y, PRECISION: tl.constexpr):
    i = tl.arange(0, 32)
    place = i[:, None] * 32 + i[None, :]
    a = tl.load(x + place)
    b = tl.load(w + place)
    if PRECISION == "default":
        c = tl.dot(a, b)
    else:
        c = tl.dot(a, b, input_precision=PRECISION)
    tl.store(y + place, c)
PYTHON
cat > "$work/compiled.py" <<'PYTHON'
import triton
from product import product
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

signature = {"x": "*fp32", "w": "*fp32", "y": "*fp32", "PRECISION": "constexpr"}
for capability in (80, 90):
    for precision in ("default", "tf32", "ieee"):
        source = ASTSource(product, signature, constexprs={"PRECISION": precision})
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        tf32 = ".tf32" in made.asm["ptx"]
        print(f"sm_{capability} {precision:7} {'TF32' if tf32 else 'float32'}")
        assert tf32 == (precision != "ieee"), (capability, precision)
PYTHON
cat > "$work/interpreted.py" <<'PYTHON'
import torch
from product import product

torch.manual_seed(0)
x, w = torch.randn(2, 32, 32)
exact = x.double() @ w.double()
# TF32 keeps 10 of the 23 bits of the mantissa: what tensor cores multiply.
short = [(t.view(torch.int32) + 0x1000 & -0x2000).view(torch.float32).double() for t in (x, w)]
print(f"TF32 operands, exact sums: error {float((short[0] @ short[1] - exact).abs().max()):.1e}")
results = []
for precision in ("default", "tf32", "ieee"):
    y = torch.empty(32, 32)
    product[(1,)](x, w, y, precision)
    error = float((y - exact).abs().max())
    print(f"interpreter, {precision:7}: error {error:.1e}")
    assert error < 1e-5
    results.append(y)
assert all(torch.equal(results[0], each) for each in results)
print("as described: TF32 in compiled code, float32 in the interpreter")
PYTHON
cd "$work"
"$work/venv/bin/python" compiled.py
TRITON_INTERPRET=1 "$work/venv/bin/python" interpreted.py

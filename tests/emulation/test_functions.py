"""What CUDA's functions give in the emulation, beside what they are defined to give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from emulate import emulate, fault

KERNEL = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" __global__ void kernel(const %s* x, %s* out) {
    int t = threadIdx.x, lane = t %% 32;
    (void)lane;
    out[t] = %s;
}
"""
FULL = "0xffffffffu"


def ints(code: str, count: int = 32) -> list[int]:
    x, out = torch.arange(count, dtype=torch.int32), torch.full((count,), -7, dtype=torch.int32)
    emulate(KERNEL % ("int", "int", code), x, out, block=count)
    return out.tolist()


LANES = list(range(32))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"__shfl_sync({FULL}, x[t], 3)", [3] * 32),
        (f"__shfl_sync({FULL}, x[t], lane + 1, 8)", [i // 8 * 8 + (i + 1) % 8 for i in LANES]),
        (f"__shfl_up_sync({FULL}, x[t], 2)", [max(i - 2, i if i < 2 else 0) for i in LANES]),
        (f"__shfl_down_sync({FULL}, x[t], 5)", [i + 5 if i + 5 < 32 else i for i in LANES]),
        (f"__shfl_down_sync({FULL}, x[t], 1, 4)", [i + 1 if i % 4 < 3 else i for i in LANES]),
        (f"__shfl_xor_sync({FULL}, x[t], 16)", [i ^ 16 for i in LANES]),
        (f"(int)__shfl_xor_sync({FULL}, 1ll << 32, 1) + (t ^ 1)", [i ^ 1 for i in LANES]),
        (f"__ballot_sync({FULL}, x[t] % 2)", [-1431655766] * 32),
        (f"__any_sync({FULL}, x[t] == 5) + 2 * __any_sync({FULL}, x[t] == 77)", [1] * 32),
        (f"__all_sync({FULL}, x[t] < 32) + 2 * __all_sync({FULL}, x[t] < 31)", [1] * 32),
        (f"__match_any_sync({FULL}, x[t] % 16)", [
            v - 2**32 if v >= 2**31 else v for v in (0x10001 << i % 16 for i in LANES)
        ]),
        (f"__reduce_add_sync({FULL}, x[t])", [496] * 32),
        (f"__reduce_min_sync({FULL}, 5 - x[t])", [-26] * 32),
        (f"__reduce_max_sync({FULL}, (unsigned)x[t])", [31] * 32),
        (f"__reduce_or_sync({FULL}, 1u << x[t])", [-1] * 32),
        ("t < 8 ? __shfl_sync(0xff, x[t], 7 - t) : __popc(__activemask())", [
            *range(7, -1, -1), *[24] * 24,
        ]),
        ("__popc(x[t]) + 100 * __ffs(x[t])", [
            i.bit_count() + 100 * ((i & -i).bit_length()) for i in LANES
        ]),
        ("__clz(x[t])", [32 - i.bit_length() for i in LANES]),
        ("__syncthreads_count(x[t] < 5) + 100 * __syncthreads_or(x[t] > 40)", [5] * 32),
        ("__syncthreads_and(x[t] < 32)", [1] * 32),
        ("min(x[t], 3u) + max(x[t], 30)", [min(i, 3) + max(i, 30) for i in LANES]),
        ("__dp4a(x[t], 0x01010101, 1)", [i + 1 for i in LANES]),
        ("__float2int_rn(x[t] * 0.5f)", [round(i / 2) for i in LANES]),
        ("__byte_perm(x[t], 0x0a0b0c0d, 0x0045)", [
            int.from_bytes(bytes([0x0C, 0x0D, i, i]), "little") for i in LANES
        ]),
    ],
)  # fmt: skip
def test_integers(code: str, expected: list[int]) -> None:
    assert ints(code) == expected


def test_a_warp_that_is_not_full() -> None:
    assert ints("__popc(__activemask()) + __reduce_add_sync((1u << 20) - 1, 1)", 20) == [40] * 20
    assert ints(f"__shfl_xor_sync({FULL}, x[t], 1)", 20) == [i ^ 1 for i in range(20)]


def test_a_lane_that_is_not_there_gives_what_is_undefined() -> None:
    x, out = torch.ones(32), torch.zeros(32)
    code = "lane < 16 ? __shfl_xor_sync(0xffffu, x[t], 16) : 0.0f"
    emulate(KERNEL % ("float", "float", code), x, out)
    assert out[:16].isnan().all()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("atomicAdd(out + 1, 2)", 64),
        ("atomicSub(out + 1, 1)", -32),
        ("atomicMax(out + 1, x[t])", 31),
        ("atomicMin(out + 1, -x[t])", -31),
        ("atomicOr(out + 1, 1 << x[t] % 8)", 255),
        ("atomicXor(out + 1, 1)", 0),
        ("atomicAnd(out + 1, 0)", 0),
        ("atomicInc((unsigned*)out + 1, 9)", 2),
        ("atomicDec((unsigned*)out + 1, 9)", 8),
        ("atomicCAS(out + 1, 0, 5)", 5),
    ],
)
def test_atomics(code: str, expected: int) -> None:
    text = f"""
    extern "C" __global__ void kernel(const int* x, int* out) {{
        int t = threadIdx.x;
        {code};
    }}
    """
    out = torch.zeros(2, dtype=torch.int32)
    emulate(text, torch.arange(32, dtype=torch.int32), out, orders=1)
    assert out.tolist() == [0, expected]


def test_atomics_of_floats_and_pairs() -> None:
    text = """
    #include <cuda_fp16.h>
    extern "C" __global__ void kernel(float* one, double* two, half2* three) {
        atomicAdd(one, 0.5f);
        atomicAdd(two, 0.25);
        atomicAdd(three, __floats2half2_rn(1.0f, 2.0f));
    }
    """
    one, two = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    three = torch.zeros(2, dtype=torch.float16)
    emulate(text, one, two, three, orders=1)
    assert (one.item(), two.item(), three.tolist()) == (16, 8, [32, 64])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_float_is_rounded_as_torch_does(dtype: torch.dtype) -> None:
    """All bit patterns of 16 bits, what lies between two of them, and numbers beside."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).float()
    finite = every[every.isfinite()].sort().values
    middle = (finite[1:].double() + finite[:-1].double()) / 2
    exact = middle.float()
    beside = [torch.nextafter(exact, torch.full_like(exact, end)) for end in (math.inf, -math.inf)]
    x = torch.cat([every, exact, *beside, torch.tensor([1e30, -1e30, 65519.99, 65520])])
    x = torch.cat([x, torch.zeros(-len(x) % 1024)])
    name = "__half" if dtype == torch.float16 else "__nv_bfloat16"
    out = torch.zeros(len(x), dtype=dtype)
    text = f"""
    #include <cuda_fp16.h>
    #include <cuda_bf16.h>
    extern "C" __global__ void kernel(const float* x, {name}* out, float* back) {{
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        out[i] = {name}(x[i]);
        back[i] = out[i];
    }}
    """
    back = torch.zeros(len(x))
    emulate(text, x, out, back, grid=len(x) // 1024, block=1024, orders=1)
    expected = x.to(dtype)
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(back.nan_to_num(7), expected.float().nan_to_num(7))


NARROW = [
    ("__hadd(x[t], x[31 - t])", lambda x, y: x + y),
    ("x[t] - x[31 - t]", lambda x, y: x - y),
    ("__hmul(x[t], x[31 - t])", lambda x, y: x * y),
    ("x[t] / x[31 - t]", lambda x, y: x / y),
    ("__hfma(x[t], x[31 - t], x[t])", lambda x, y: x.double() * y.double() + x.double()),
    ("__hmax(x[t], x[31 - t])", torch.maximum),
    ("-__habs(x[t])", lambda x, y: -x.abs()),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("code", "expected"), NARROW, ids=[code for code, _ in NARROW])
def test_arithmetic_of_16_bits(code, expected, dtype: torch.dtype) -> None:
    x = (torch.randn(32, generator=torch.Generator().manual_seed(1)) * 50).to(dtype)
    out = torch.zeros(32, dtype=dtype)
    name = "__half" if dtype == torch.float16 else "__nv_bfloat16"
    emulate(KERNEL % (name, name, code), x, out)
    assert torch.equal(out, expected(x, x.flip(0)).to(dtype))


def test_half_overflows() -> None:
    x, out = torch.full((32,), 40000.0).half(), torch.zeros(32).half()
    emulate(KERNEL % ("__half", "__half", "__hadd(x[t], x[t])"), x, out)
    assert out.isinf().all()


PTX = [
    'asm("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(a), "=f"(b), "=f"(c), "=f"(d) '
    ': "l"(x + 4 * t));',
    'asm volatile("ld.global.v2.f32 {%0,%1}, [%2+8];\\n" : "=f"(a), "=f"(b) : "l"(x + 4 * t)); '
    "c = 1; d = 4 * t;",
    'asm volatile("prefetch.global.L2 [%0];" :: "l"(x)); asm("mov.u32 %0, %%laneid;" : "=r"(n)); '
    "a = n; b = c = d = 0;",
    'unsigned short h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x[t])); '
    'asm("cvt.f32.f16 %0, %1;" : "=f"(a) : "h"(h)); b = c = d = 0;',
]


def test_inline_ptx() -> None:
    x = torch.arange(128.0)
    sums = [x.view(32, 4).sum(1), x.view(32, 4)[:, 2:].sum(1) + 1 + 4 * x[:32], x[:32], x[:32]]
    for code, expected in zip(PTX, sums, strict=True):
        text = f"""
        extern "C" __global__ void kernel(const float* x, float* out) {{
            int t = threadIdx.x;
            float a, b, c, d;
            unsigned n;
            (void)n;
            {code}
            out[t] = a + b + c + d;
        }}
        """
        out = torch.zeros(32)
        emulate(text, x, out)
        assert torch.equal(out, expected), code


def test_copies_of_memory_are_watched() -> None:
    text = """
    struct Big { float each[8]; };
    extern "C" __global__ void kernel(const float* x, float* out, int count) {
        if (threadIdx.x == 0) memcpy(out, x, count * sizeof(float));
        if (threadIdx.x == 1) *(Big*)(out + 8) = *(const Big*)(x + 8);
    }
    """
    x, out = torch.arange(16.0), torch.zeros(16)
    emulate(text, x, out, 8)
    assert torch.equal(out, x)
    assert "across the end of x" in fault(text, x[:12], out, 8)
    assert "across the end of x" in fault(text, x, out, 17)


def test_arguments_of_every_kind() -> None:
    text = """
    struct Pair { int a; float b; };
    extern "C" __global__ void kernel(double* out, int i, unsigned char u, long long l, bool flag,
                                      float f, double d, const float* none, Pair pair) {
        if (threadIdx.x) return;
        out[0] = i; out[1] = u; out[2] = l; out[3] = flag; out[4] = f; out[5] = d;
        out[6] = none == nullptr; out[7] = pair.a; out[8] = pair.b;
    }
    """
    pair = np.array([(3, 2.5)], dtype=[("a", np.int32), ("b", np.float32)]).tobytes()
    out = torch.zeros(9, dtype=torch.float64)
    emulate(text, out, -5, np.uint8(200), 1 << 40, True, 0.1, np.float32(0.25), None, pair)
    assert out.tolist() == [-5, 200, 2.0**40, 1, np.float32(0.1), 0.25, 1, 3, 2.5]


def test_threads_in_three_dimensions() -> None:
    text = """
    extern "C" __global__ void kernel(int* out) {
        int i = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        out[b * 24 + i] += b * 24 + i;
    }
    """
    out = torch.zeros(24 * 12, dtype=torch.int32)
    emulate(text, out, grid=(2, 3, 2), block=(2, 3, 4), orders=1)
    assert out.tolist() == list(range(24 * 12))


def test_variables_of_the_source_stay_from_launch_to_launch() -> None:
    text = """
    __device__ int counter = 3;
    __constant__ float table[2] = {1.5f, 2.5f};
    extern "C" __global__ void kernel(float* out) {
        if (threadIdx.x == 0) out[0] = atomicAdd(&counter, 1) + table[1];
    }
    """
    out = torch.zeros(1)
    emulate(text, out, orders=2)
    assert out.item() == 6.5

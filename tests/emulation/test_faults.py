"""What the emulation finds wrong, each in a small kernel, and right kernels beside it."""

from __future__ import annotations

import pytest
import torch
from emulate import emulate, fault

REVERSE = """
extern "C" __global__ void kernel(const float* x, float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    %s
    out[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}
"""


def test_a_missing_barrier_is_a_race() -> None:
    x, out = torch.arange(64.0), torch.zeros(64)
    emulate(REVERSE % "__syncthreads();", x, out, block=64)
    assert torch.equal(out, x.flip(0))
    told = fault(REVERSE % "", x, out, block=64)
    assert "has a race: thread 0:0 reads 4 bytes of shared memory" in told or (
        "has a race" in told and "nothing orders the two" in told
    )
    assert "source.cu, line " in told


def test_a_warp_barrier_orders_a_warp_only() -> None:
    x, out = torch.arange(64.0), torch.zeros(64)
    emulate(REVERSE % "__syncwarp();", x[:32], out[:32], block=32)
    assert torch.equal(out[:32], x[:32].flip(0))
    assert "has a race" in fault(REVERSE % "__syncwarp();", x, out, block=64)


def test_a_shuffle_orders_nothing() -> None:
    x, out = torch.arange(32.0), torch.zeros(32)
    assert "has a race" in fault(REVERSE % "__shfl_sync(~0u, 0, 0);", x, out)


WRITES = """
extern "C" __global__ void kernel(int* out) { %s }
"""


@pytest.mark.parametrize("code", ["out[0] = threadIdx.x;", "out[0] += 1;", "out[0] = blockIdx.x;"])
def test_threads_and_blocks_that_write_to_one_place(code: str) -> None:
    assert "has a race" in fault(WRITES % code, torch.zeros(4, dtype=torch.int32), grid=2)


def test_the_same_value_may_be_written_by_many() -> None:
    out = torch.zeros(1, dtype=torch.int32)
    emulate(WRITES % "out[0] = 7;", out, grid=3)
    assert out.item() == 7


def test_a_read_beside_an_atomic_is_a_race() -> None:
    out = torch.zeros(2, dtype=torch.int32)
    emulate(WRITES % "atomicAdd(out, 1);", out, grid=2, orders=1)
    assert out[0] == 64
    assert "has a race" in fault(WRITES % "atomicAdd(out, 1); out[1] = out[0];", out)


def test_neighbours_of_two_bytes_do_not_race() -> None:
    text = """
    extern "C" __global__ void kernel(short* out) { out[threadIdx.x] = threadIdx.x; }
    """
    out = torch.zeros(16, dtype=torch.int32)  # whose granules are of four bytes at first
    emulate(text, out)
    assert out.view(torch.int16).tolist() == list(range(32))


LAST_BLOCK = """
extern "C" __global__ void kernel(const float* x, float* parts, unsigned* count, float* out) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = x[blockIdx.x];
        %s
        last = atomicInc(count, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float sum = 0;
        for (int i = 0; i < gridDim.x; ++i) sum += parts[i];
        *out = sum;
    }
}
"""


def test_the_last_block_may_read_what_a_fence_and_an_atomic_publish() -> None:
    count = torch.zeros(1, dtype=torch.int32)
    x, out = torch.arange(5.0), torch.zeros(1)
    emulate(LAST_BLOCK % "__threadfence();", x, torch.zeros(5), count, out, grid=5)
    assert out.item() == 10
    count.zero_()
    assert "has a race" in fault(LAST_BLOCK % "", x, torch.zeros(5), count, out, grid=5)


LOCK = """
extern "C" __global__ void kernel(int* lock, int* out) {
    if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0, 1) != 0) {}
        %s
        out[0] += 1;
        %s
        atomicExch(lock, 0);
    }
}
"""


def test_a_lock_orders_blocks() -> None:
    lock, out = torch.zeros(2, 1, dtype=torch.int32)
    fence = "__threadfence();"
    emulate(LOCK % (fence, fence), lock, out, grid=6)
    assert out.item() == 18
    assert "has a race" in fault(LOCK % (fence, ""), lock.zero_(), out, grid=6)


READS = """
extern "C" __global__ void kernel(const float* x, float* out) { out[threadIdx.x] = %s; }
"""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x[threadIdx.x + 1]", "thread 31:0 reads 4 bytes 0 bytes past the end of x"),
        ("x[(int)threadIdx.x - 1]", "thread 0:0 reads 4 bytes 4 bytes before the beginning of x"),
        ("((const float*)nullptr)[0]", "thread 0:0 reads 4 bytes at a null pointer"),
        ("*(const float*)((const char*)x + 2)", "no multiple of 4"),
    ],
)
def test_out_of_bounds(code: str, told: str) -> None:
    # In the middle of a storage: what is around belongs to somebody.
    x = torch.zeros(96)[32:64]
    assert told in fault(READS % code, x, torch.zeros(32))


def test_rows_may_be_read_and_not_written_across() -> None:
    x = torch.zeros(4, 16)[:, :8]
    emulate(READS % "x[threadIdx.x]", x, torch.zeros(32))
    text = READS.replace("const float* x", "float* x") % "(x[threadIdx.x] = 1)"
    assert "writes between the rows of x" in fault(text, x, torch.zeros(32))


VECTORS = """
#include <cuda_fp16.h>
extern "C" __global__ void kernel(const %s* x, float* out) {
    auto v = reinterpret_cast<const %s*>(x)[threadIdx.x];
    out[threadIdx.x] = float(v.x) + float(v.y);
}
"""


@pytest.mark.parametrize(
    ("one", "several", "size"), [("float", "float4", 16), ("half", "half2", 4)]
)
def test_vectors_must_be_aligned(one: str, several: str, size: int) -> None:
    text = VECTORS % (one, several)
    dtype = torch.float32 if one == "float" else torch.float16
    x = torch.ones(4 * 32 + 1, dtype=dtype)
    out = torch.zeros(32)
    emulate(text, x, out)
    assert torch.equal(out, torch.full((32,), 2.0))
    told = fault(text, x[1:], out)
    assert "is misaligned" in told
    assert f"no multiple of {size}" in told


DYNAMIC = """
extern __shared__ float tile[];
extern "C" __global__ void kernel(float* out) {
    tile[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = tile[31 - threadIdx.x];
}
template <class T> __global__ void other(T* out) {
    extern __shared__ __align__(16) unsigned char raw[];
    T* words = reinterpret_cast<T*>(raw);
    words[threadIdx.x] = 2 * threadIdx.x;
    out[threadIdx.x] = words[threadIdx.x] + (threadIdx.x == 0 ? words[%s] : 0);
}
"""


def test_dynamic_shared_memory_is_as_large_as_it_was_asked_for() -> None:
    out = torch.zeros(32)
    emulate(DYNAMIC % 0, out, shared=128)
    assert torch.equal(out, torch.arange(31.0, -1, -1))
    told = fault(DYNAMIC % 0, out, shared=124)
    assert "beyond the 124 bytes of dynamic shared memory" in told
    emulate(DYNAMIC % 0, out, shared=128, entry="other<float>")
    assert torch.equal(out, torch.arange(0.0, 64, 2))


def test_shared_memory_is_nan_until_it_is_written() -> None:
    out = torch.zeros(32)
    emulate(DYNAMIC % 40, out, shared=256, entry="other<float>")
    assert out[0].isnan()
    assert torch.equal(out[1:], torch.arange(2.0, 64, 2))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("if (threadIdx.x < 16) __syncthreads(); else\n __syncthreads();", "different barriers"),
        ("if (threadIdx.x < 16) __syncwarp();", ""),
        (
            "if (threadIdx.x < 16) __syncwarp(); else __syncthreads();",
            "wait for ever: thread 0:0 in __syncwarp with mask 0xffffffff, line 2, thread 16:0 in "
            "__syncthreads(), line 2",
        ),
        (
            "__syncwarp(2);",
            "calls __syncwarp, line 2, with the mask 0x00000002, in which it is not",
        ),
        (
            "__shfl_sync(threadIdx.x < 16 ? ~0u : 0xffff0000u, 1, 0); __syncthreads();",
            "in a shuffle with mask 0xffffffff, line 2, thread 16:0 in __syncthreads()",
        ),
        ("while (atomicAdd(out, 0) == 0) {}", "waits for ever"),
        ("__trap();", "calls __trap, line 2"),
        ("assert(out == nullptr);", "fails assert(out == nullptr), line 2"),
    ],
)
def test_threads_that_do_not_meet(code: str, told: str) -> None:
    out = torch.zeros(1, dtype=torch.int32)
    if told:
        assert told in fault(WRITES % code, out)
    else:  # the others have ended, and are not waited for
        emulate(WRITES % code, out)


ASYNC = """
#include <cuda_pipeline.h>
extern "C" __global__ void kernel(const float4* x, float4* out) {
    __shared__ float4 tile[32];
    %s
    __syncthreads();
    out[threadIdx.x] = tile[31 - threadIdx.x];
}
"""
COPY = "__pipeline_memcpy_async(tile + threadIdx.x, x + threadIdx.x, 16); __pipeline_commit();"
PTX_COPY = r"""
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(tile + threadIdx.x));
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;\n"
                 :: "r"(to), "l"(x + threadIdx.x));
    asm volatile("cp.async.commit_group;\n" ::);
"""


@pytest.mark.parametrize("copy", [COPY, PTX_COPY])
def test_asynchronous_copies_are_there_after_the_wait(copy: str) -> None:
    x, out = torch.arange(128.0), torch.zeros(128)
    for wait in ("__pipeline_wait_prior(0);", 'asm volatile("cp.async.wait_group %0;" :: "n"(0));'):
        emulate(ASYNC % (copy + wait), x, out)
        assert torch.equal(out.view(32, 4), x.view(32, 4).flip(0))
    emulate(ASYNC % copy, x, out, orders=1)
    assert out.isnan().all()
    emulate(ASYNC % (copy + "__pipeline_wait_prior(1);"), x, out, orders=1)
    assert out.isnan().all()
    assert "is misaligned" in fault(ASYNC % copy, torch.zeros(129)[1:], out)


def test_a_wait_is_no_barrier() -> None:
    text = (ASYNC % (COPY + "__pipeline_wait_prior(0);")).replace("__syncthreads();", "")
    assert "has a race" in fault(text, torch.zeros(128), torch.zeros(128))


def test_rows_far_apart_cost_no_memory() -> None:
    memory = torch.empty(3 << 30, dtype=torch.uint8)  # pages that nobody touches
    x = memory.as_strided((2, 16), ((3 << 30) - 16, 1))
    x.fill_(1)
    text = """
    extern "C" __global__ void kernel(const unsigned char* x, long long pitch, float* out) {
        out[threadIdx.x] = x[threadIdx.x / 16 * pitch + threadIdx.x % 16];
    }
    """
    out = torch.zeros(32)
    emulate(text, x, x.stride(0), out, orders=1)
    assert torch.equal(out, torch.ones(32))

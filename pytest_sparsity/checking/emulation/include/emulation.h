// Comes before every source of kernels: CUDA C++ as far as it is emulated.

#pragma once

extern "C" {
// Copies of memory are watched as well.
void* memcpy(void*, const void*, unsigned long) __asm__("emulation_memcpy");
void* memmove(void*, const void*, unsigned long) __asm__("emulation_memcpy");
void* memset(void*, int, unsigned long) __asm__("emulation_memset");
}

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

#include "../engine.h"

#undef assert
#define assert(condition) \
    ((condition) ? void() : emulation::emulation_fault("fails assert(" #condition ")", __LINE__))

#define __CUDACC__ 1
#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define CUDART_VERSION 13000
#define PYTEST_SPARSITY_EMULATION 1

#define __host__
#define __device__
#define __global__
#define __constant__
#define __shared__ thread_local
#define __launch_bounds__(...)
#define __grid_constant__
#define __noinline__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
#define __inline__ inline
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __attribute__((aligned(n)))

#define threadIdx (emulation::emulation_thread())
#define blockIdx (emulation::emulation_block())
#define blockDim (emulation::emulation_block_size())
#define gridDim (emulation::emulation_grid_size())
constexpr int warpSize = 32;

#include "vectors.h"
#include "arithmetic.h"
#include "atomics.h"
#include "narrow.h"
#include "warps.h"

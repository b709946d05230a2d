// Right kernels of y = W S_t(x) + b in four styles of CUDA C++, from which mutants are made.
//
// W is [outputs, channels] with any strides; a vector is the weights of V outputs that one channel
// has, 128 bits where they are adjacent and aligned.  x is [rows, channels], contiguous.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>

using Index = long long;

__device__ float widen(float v) { return v; }
__device__ float widen(__half v) { return __half2float(v); }
__device__ float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ void narrow(float v, float* to) { *to = v; }
__device__ void narrow(float v, __half* to) { *to = __float2half(v); }
__device__ void narrow(float v, __nv_bfloat16* to) { *to = __float2bfloat16(v); }

__device__ bool active(float v, float threshold) { return !(fabsf(v) <= threshold); }  // NaN is

template <class T> constexpr int kVector = 16 / sizeof(T);

template <class T> struct Weights {
    const T* data;
    Index output_stride, channel_stride;
    int outputs;
    bool wide;

    __device__ Weights(const T* data, Index output_stride, Index channel_stride, int outputs)
        : data(data), output_stride(output_stride), channel_stride(channel_stride),
          outputs(outputs) {
        wide = output_stride == 1 && channel_stride * sizeof(T) % 16 == 0 &&
               reinterpret_cast<unsigned long long>(data) % 16 == 0;
    }
    // Those of outputs first to first + V; zero beyond the last.
    __device__ void load(int first, int channel, float (&to)[kVector<T>]) const {
        const T* from = data + channel * channel_stride + first * output_stride;
        if (wide && first + kVector<T> <= outputs) {
            uint4 words = *reinterpret_cast<const uint4*>(from);
            const T* each = reinterpret_cast<const T*>(&words);
#pragma unroll
            for (int v = 0; v < kVector<T>; ++v) to[v] = widen(each[v]);
        } else {
            for (int v = 0; v < kVector<T>; ++v) {
                to[v] = first + v < outputs ? widen(from[v * output_stride]) : 0.0f;
            }
        }
    }
};

// One warp for V outputs: lanes share the channels, and shuffles add them up.
// Grid: outputs / V and rows; block: one warp.
template <class T>
__global__ void warp(const T* __restrict__ x, int channels, const T* __restrict__ weight,
                     Index output_stride, Index channel_stride, int outputs, float threshold,
                     const T* __restrict__ bias, T* __restrict__ result) {
    constexpr int V = kVector<T>;
    Weights<T> weights(weight, output_stride, channel_stride, outputs);
    int first = blockIdx.x * V, lane = threadIdx.x;
    x += Index(blockIdx.y) * channels;
    float sums[V] = {};
    for (int k = lane; k < channels; k += 32) {
        float value = widen(x[k]), own[V];
        if (!active(value, threshold)) continue;
        weights.load(first, k, own);
        for (int v = 0; v < V; ++v) sums[v] += value * own[v];
    }
    for (int v = 0; v < V; ++v) {
        for (int by = 16; by > 0; by /= 2) sums[v] += __shfl_down_sync(0xffffffffu, sums[v], by);
    }
    if (lane == 0) {
        for (int v = 0; v < V && first + v < outputs; ++v) {
            float sum = sums[v];
            if (bias != nullptr) sum += widen(bias[first + v]);
            narrow(sum, result + Index(blockIdx.y) * outputs + first + v);
        }
    }
}

// Tiles of x come into shared memory while the one before is used; groups of a block share the
// channels of a tile, and their sums meet in shared memory.
// Grid: outputs / (LANES V) and rows; block: LANES and GROUPS; dynamic memory: shared_bytes.
constexpr int kLanes = 8, kGroups = 16, kTile = 64;

template <class T>
__device__ void stage(const T* x, int channels, int tile, T* to) {
    int thread = threadIdx.y * kLanes + threadIdx.x, begin = tile * kTile;
    constexpr int V = kVector<T>;
    const T* from = x + begin;
    bool whole = begin + kTile <= channels && reinterpret_cast<unsigned long long>(from) % 16 == 0;
    if (whole) {
        if (thread < kTile / V) __pipeline_memcpy_async(to + thread * V, from + thread * V, 16);
    } else if (thread < kTile) {
        if (begin + thread < channels) to[thread] = from[thread];
        else narrow(0.0f, to + thread);  // inactive, also where the threshold is 0
    }
    __pipeline_commit();
}

template <class T>
__global__ void tiled(const T* __restrict__ x, int channels, const T* __restrict__ weight,
                      Index output_stride, Index channel_stride, int outputs, float threshold,
                      const T* __restrict__ bias, T* __restrict__ result) {
    constexpr int V = kVector<T>;
    extern __shared__ __align__(16) unsigned char memory[];
    T* tiles = reinterpret_cast<T*>(memory);
    float* meeting = reinterpret_cast<float*>(memory + 2 * kTile * sizeof(T));
    Weights<T> weights(weight, output_stride, channel_stride, outputs);
    int first = (blockIdx.x * kLanes + threadIdx.x) * V;
    x += Index(blockIdx.y) * channels;
    float sums[V] = {};
    int count = (channels + kTile - 1) / kTile;
    stage(x, channels, 0, tiles);
    for (int tile = 0; tile < count; ++tile) {
        if (tile + 1 < count) stage(x, channels, tile + 1, tiles + (tile + 1) % 2 * kTile);
        __pipeline_wait_prior(tile + 1 < count ? 1 : 0);
        __syncthreads();  // everybody's part of the tile is there
        for (int i = threadIdx.y; i < kTile && first < outputs; i += kGroups) {
            float value = widen(tiles[tile % 2 * kTile + i]), own[V];
            if (!active(value, threshold)) continue;
            weights.load(first, tile * kTile + i, own);
            for (int v = 0; v < V; ++v) sums[v] += value * own[v];
        }
        __syncthreads();  // nobody needs the tile any longer
    }
    float* own = meeting + (threadIdx.y * kLanes + threadIdx.x) * V;
    for (int v = 0; v < V; ++v) own[v] = sums[v];
    for (int half = kGroups / 2; half > 0; half /= 2) {
        __syncthreads();  // the sums that are added are there
        if (threadIdx.y < half) {
            for (int v = 0; v < V; ++v) own[v] += own[half * kLanes * V + v];
        }
    }
    if (threadIdx.y == 0) {
        for (int v = 0; v < V && first + v < outputs; ++v) {
            float sum = own[v];
            if (bias != nullptr) sum += widen(bias[first + v]);
            narrow(sum, result + Index(blockIdx.y) * outputs + first + v);
        }
    }
}

// Blocks share the channels: each adds its sums to `total` atomically, and the last one to come
// makes the result of them.  `total` and `arrived` are zero, and `arrived` is left so.
// Grid: outputs / (32 V), rows, and parts of the channels; block: one warp.
template <class T>
__global__ void split(const T* __restrict__ x, int channels, const T* __restrict__ weight,
                      Index output_stride, Index channel_stride, int outputs, float threshold,
                      const T* __restrict__ bias, T* __restrict__ result, float* total,
                      unsigned* arrived) {
    constexpr int V = kVector<T>;
    Weights<T> weights(weight, output_stride, channel_stride, outputs);
    int first = (blockIdx.x * 32 + threadIdx.x) * V;
    int part = (channels + gridDim.z - 1) / gridDim.z, begin = blockIdx.z * part;
    int end = min(begin + part, channels);
    x += Index(blockIdx.y) * channels;
    total += Index(blockIdx.y) * outputs;
    float sums[V] = {};
    for (int k = begin; k < end && first < outputs; ++k) {
        float value = widen(x[k]), own[V];
        if (!active(value, threshold)) continue;
        weights.load(first, k, own);
        for (int v = 0; v < V; ++v) sums[v] += value * own[v];
    }
    for (int v = 0; v < V && first + v < outputs; ++v) atomicAdd(total + first + v, sums[v]);
    __threadfence();  // what was added is seen by who sees the arrival
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned* count = arrived + blockIdx.y * gridDim.x + blockIdx.x;
        last = atomicInc(count, gridDim.z - 1) == gridDim.z - 1;
    }
    __syncthreads();
    for (int v = 0; last && v < V && first + v < outputs; ++v) {
        float sum = __ldcg(total + first + v);
        if (bias != nullptr) sum += widen(bias[first + v]);
        narrow(sum, result + Index(blockIdx.y) * outputs + first + v);
    }
}

// Pairs of 16-bit weights, eight at once, added up in float; a block's warps share the channels.
// Needs weights whose outputs are adjacent and aligned to pairs, and an even number of outputs.
// Grid: outputs / 64 and rows; block: 8 lanes and 4 groups, one warp.
__device__ float2 widened(__half2 v) { return __half22float2(v); }
__device__ float2 widened(__nv_bfloat162 v) { return __bfloat1622float2(v); }

template <class T, class Pair>
__global__ void pairs(const T* __restrict__ x, int channels, const T* __restrict__ weight,
                      Index channel_stride, int outputs, float threshold,
                      const T* __restrict__ bias, T* __restrict__ result) {
    __shared__ float2 meeting[4][8][4];
    int first = (blockIdx.x * 8 + threadIdx.x) * 8, group = threadIdx.y;
    bool wide = channel_stride % 8 == 0 && reinterpret_cast<unsigned long long>(weight) % 16 == 0;
    x += Index(blockIdx.y) * channels;
    float2 sums[4] = {};
    for (int k = group; k < channels; k += 4) {
        float value = widen(x[k]);
        if (!active(value, threshold)) continue;
        const Pair* from = reinterpret_cast<const Pair*>(weight + k * channel_stride + first);
        Pair own[4] = {};
        if (wide && first + 8 <= outputs) {
            *reinterpret_cast<uint4*>(own) = *reinterpret_cast<const uint4*>(from);
        } else {
            for (int p = 0; p < 4; ++p) {
                if (first + 2 * p < outputs) own[p] = from[p];
            }
        }
        for (int p = 0; p < 4; ++p) {
            float2 both = widened(own[p]);
            sums[p].x += value * both.x;
            sums[p].y += value * both.y;
        }
    }
    for (int p = 0; p < 4; ++p) meeting[group][threadIdx.x][p] = sums[p];
    __syncwarp();
    if (group != 0) return;
    for (int p = 0; p < 4; ++p) {
        for (int g = 1; g < 4; ++g) {
            sums[p].x += meeting[g][threadIdx.x][p].x;
            sums[p].y += meeting[g][threadIdx.x][p].y;
        }
        for (int half = 0; half < 2; ++half) {
            int n = first + 2 * p + half;
            if (n >= outputs) continue;
            float sum = half == 0 ? sums[p].x : sums[p].y;
            if (bias != nullptr) sum += widen(bias[n]);
            narrow(sum, result + Index(blockIdx.y) * outputs + n);
        }
    }
}

// Activation-sparse multiplications on an NVIDIA GPU, for nvcc and NVRTC; no headers.
//
// A block owns some outputs: `blockDim.x` lanes of 16 bytes of weights each.  Its `blockDim.y`
// groups share the channels, and their sums meet in shared memory in a fixed order: no atomics, the
// same bits in every run.  Only weights of channels active in some row are loaded, with 128 bits
// where their addresses allow it and number by number elsewhere.  Each row has its own mask, and
// sums are float32.
//
// Whoever compiles appends the instances wanted: INSTANCE(Half, 1) and so on.  All parameters are
// 64 bits wide, since that is what launchers make of plain numbers.

using Index = long long;

struct Half { unsigned short bits; };
struct Bfloat16 { unsigned short bits; };

constexpr int kThreads = 512;  // at most, in a block
constexpr int kWarp = 32;

// Numbers to float, exactly, and back, to nearest with ties to even.

#ifdef __CUDACC__
__device__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
__device__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

__device__ float widen(float value) { return value; }
__device__ float widen(Half value) { return half_to_float(value.bits); }
__device__ float widen(Bfloat16 value) {
    return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

__device__ void narrow(float value, float& to) { to = value; }
__device__ void narrow(float value, Half& to) { to.bits = float_to_half(value); }
__device__ void narrow(float value, Bfloat16& to) {
    unsigned word = __float_as_uint(value);
    bool nan = (word & 0x7fffffff) > 0x7f800000;
    to.bits = nan ? 0x7fc0 : (word + 0x7fff + (word >> 16 & 1)) >> 16;
}

template <class T> constexpr int kVector = 16 / sizeof(T);  // numbers in 128 bits

// Number i of a vector.
template <class T> __device__ float element(const uint4& vector, int i) {
    unsigned words[4] = {vector.x, vector.y, vector.z, vector.w};
    if constexpr (sizeof(T) == 4) {
        return __uint_as_float(words[i]);
    } else {
        T value;
        value.bits = static_cast<unsigned short>(words[i / 2] >> i % 2 * 16);
        return widen(value);
    }
}

template <class T> __device__ uint4 load(const T* from) {
    return *reinterpret_cast<const uint4*>(from);
}

__device__ bool aligned(const void* base, Index pitch) {
    return reinterpret_cast<unsigned long long>(base) % 16 == 0 && pitch % 16 == 0;
}

// NaN is active.
__device__ bool active(float value, float threshold) { return !(fabsf(value) <= threshold); }

// sums[row][v] += weights of this thread's outputs, over the active ones of this group's channels.
template <class T, class H, int ROWS, bool WIDE>
__device__ void accumulate(const H* keys, const H* values, float threshold, Index channels,
                           const T* weight, Index channel_stride, Index output_stride, int count,
                           float (&sums)[ROWS][kVector<T>]) {
    // Several loads are on their way at once; with many rows registers allow fewer.
    constexpr int kUnroll = ROWS <= 2 ? 4 : ROWS <= 4 ? 2 : 1;
    constexpr int V = kVector<T>;
    Index step = blockDim.y;
    for (Index k = threadIdx.y; k < channels; k += kUnroll * step) {
        unsigned masks[kUnroll];
        uint4 vectors[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            Index channel = k + u * step;
            masks[u] = 0;
            if (channel < channels) {
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    bool on = active(widen(keys[r * channels + channel]), threshold);
                    masks[u] |= static_cast<unsigned>(on) << r;
                }
            }
            if (WIDE && masks[u] != 0) vectors[u] = load(weight + channel * channel_stride);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            if (masks[u] == 0) continue;
            Index channel = k + u * step;
            float weights[V];
#pragma unroll
            for (int v = 0; v < V; ++v) {
                if (WIDE) {
                    weights[v] = element<T>(vectors[u], v);
                } else {
                    const T* from = weight + channel * channel_stride + v * output_stride;
                    weights[v] = v < count ? widen(*from) : 0.0f;
                }
            }
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                if (masks[u] >> r & 1) {
                    float value = widen(values[r * channels + channel]);
#pragma unroll
                    for (int v = 0; v < V; ++v) sums[r][v] += value * weights[v];
                }
            }
        }
    }
}

// result = weight times the values of channels whose keys are active, plus bias (none if null).
// Grid: outputs / (blockDim.x * kVector<T>), rounded up.  blockDim.y is a power of two.
template <class T, class H, int ROWS>
__device__ void multiply(const H* keys, const H* values, float threshold, Index channels,
                         const T* weight, Index channel_stride, Index output_stride, Index outputs,
                         const T* bias, T* result) {
    constexpr int V = kVector<T>;
    __shared__ float shared[V * kThreads];
    int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
    Index first = (static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
    int count = outputs - first < V ? outputs - first : V;  // may be negative
    const T* own = weight + first * output_stride;
    float sums[ROWS][V] = {};
    if (count == V && output_stride == 1 && aligned(weight, channel_stride * Index(sizeof(T)))) {
        accumulate<T, H, ROWS, true>(keys, values, threshold, channels, own, channel_stride, 1, V,
                                     sums);
    } else if (count > 0) {
        accumulate<T, H, ROWS, false>(keys, values, threshold, channels, own, channel_stride,
                                      output_stride, count, sums);
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
        for (int v = 0; v < V; ++v) shared[v * threads + thread] = sums[r][v];
        __syncthreads();
        for (int half = blockDim.y / 2; half > 0; half /= 2) {
            if (threadIdx.y < half) {
#pragma unroll
                for (int v = 0; v < V; ++v) {
                    float* sum = shared + v * threads + thread;
                    *sum += sum[half * blockDim.x];
                }
            }
            __syncthreads();
        }
        if (threadIdx.y == 0) {
            for (int v = 0; v < count; ++v) {
                float sum = shared[v * threads + thread];
                if (bias != nullptr) sum += widen(bias[first + v]);
                narrow(sum, result[r * outputs + first + v]);
            }
        }
        __syncthreads();  // the next row reuses the memory
    }
}

// Dot products of one row of weights with all rows of x, by a warp; every lane has the results.
template <class T, int ROWS>
__device__ void dots(const T* x, const T* weight, Index stride, Index channels, bool wide,
                     float (&sums)[ROWS]) {
    constexpr int V = kVector<T>;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sums[r] = 0;
    if (wide) {
#pragma unroll 2
        for (Index k = threadIdx.x * V; k < channels; k += kWarp * V) {
            uint4 weights = load(weight + k);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                uint4 values = load(x + r * channels + k);
#pragma unroll
                for (int v = 0; v < V; ++v) {
                    sums[r] += element<T>(values, v) * element<T>(weights, v);
                }
            }
        }
    } else {
        for (Index k = threadIdx.x; k < channels; k += kWarp) {
            float value = widen(weight[k * stride]);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) sums[r] += widen(x[r * channels + k]) * value;
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        for (int other = kWarp / 2; other > 0; other /= 2) {
            sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], other);
        }
    }
}

template <class T> __device__ bool wide_rows(const T* data, Index row_stride, Index column_stride) {
    return column_stride == 1 && aligned(data, row_stride * Index(sizeof(T)));
}

// By its place in reference/activation.py.
__device__ float activate(Index activation, float g) {
    if (activation == 0) return g / (1.0f + expf(-g));  // silu
    if (activation == 1) {                              // gelu_tanh
        return 0.5f * g * (1.0f + tanhf(0.7978845608028654f * (g + 0.044715f * g * g * g)));
    }
    float positive = g < 0 ? 0.0f : g;  // NaN stays
    return activation == 2 ? positive : positive * positive;
}

// One warp per neuron: a = act(gate x), and h = a (up x) if the neuron is active in some row.
// blockDim.x is a warp; grid: neurons / blockDim.y, rounded up.
template <class T, int ROWS>
__device__ void neurons(const T* x, Index channels, const T* gate, Index gate_row, Index gate_column,
                        const T* up, Index up_row, Index up_column, Index neurons, float threshold,
                        Index activation, float* a, float* h) {
    Index neuron = static_cast<Index>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (neuron >= neurons) return;  // the whole warp
    bool rows_aligned = wide_rows(x, channels, 1);
    float gates[ROWS], ups[ROWS];
    dots<T, ROWS>(x, gate + neuron * gate_row, gate_column, channels,
                  rows_aligned && wide_rows(gate, gate_row, gate_column), gates);
    bool any = false;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        gates[r] = activate(activation, gates[r]);
        any |= active(gates[r], threshold);
        ups[r] = 0;
    }
    if (any) {
        dots<T, ROWS>(x, up + neuron * up_row, up_column, channels,
                      rows_aligned && wide_rows(up, up_row, up_column), ups);
    }
    if (threadIdx.x == 0) {
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            a[r * neurons + neuron] = gates[r];
            h[r * neurons + neuron] = gates[r] * ups[r];
        }
    }
}

#define INSTANCE(T, ROWS)                                                                        \
    extern "C" __global__ void __launch_bounds__(kThreads, 1) sparse_linear_##T##_##ROWS(           \
        const T* __restrict__ x, Index channels, const T* __restrict__ weight,                   \
        Index channel_stride, Index output_stride, Index outputs, double threshold,              \
        const T* __restrict__ bias, T* __restrict__ result) {                                    \
        multiply<T, T, ROWS>(x, x, static_cast<float>(threshold), channels, weight,              \
                             channel_stride, output_stride, outputs, bias, result);              \
    }                                                                                            \
    extern "C" __global__ void __launch_bounds__(kThreads, 1) swiglu_neurons_##T##_##ROWS(          \
        const T* __restrict__ x, Index channels, const T* __restrict__ gate, Index gate_row,     \
        Index gate_column, const T* __restrict__ up, Index up_row, Index up_column, Index count, \
        double threshold, Index activation, float* __restrict__ a, float* __restrict__ h) {      \
        neurons<T, ROWS>(x, channels, gate, gate_row, gate_column, up, up_row, up_column, count, \
                         static_cast<float>(threshold), activation, a, h);                       \
    }                                                                                            \
    extern "C" __global__ void __launch_bounds__(kThreads, 1) swiglu_down_##T##_##ROWS(             \
        const float* __restrict__ a, const float* __restrict__ h, double threshold, Index count, \
        const T* __restrict__ down, Index channel_stride, Index output_stride, Index outputs,    \
        T* __restrict__ result) {                                                                \
        multiply<T, float, ROWS>(a, h, static_cast<float>(threshold), count, down,               \
                                 channel_stride, output_stride, outputs,                         \
                                 static_cast<const T*>(nullptr), result);                        \
    }

// Intrinsics of numbers: bits of floats, roundings, counting, approximations (exact here).

#pragma once

template <class To, class From> inline To emulation_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of one size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

inline int __float_as_int(float v) { return emulation_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return emulation_bits<unsigned>(v); }
inline float __int_as_float(int v) { return emulation_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return emulation_bits<float>(v); }
inline long long __double_as_longlong(double v) { return emulation_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return emulation_bits<double>(v); }

// As on a GPU: to nearest or cut, and to the nearest number that there is beyond the range.
template <class To> inline To emulation_rounded(double v) {
    if (v != v) return 0;
    if (v >= double(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    if (v <= double(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return To(v);
}
inline int __float2int_rn(float v) { return emulation_rounded<int>(std::nearbyint(v)); }
inline int __float2int_rz(float v) { return emulation_rounded<int>(std::trunc(v)); }
inline int __float2int_rd(float v) { return emulation_rounded<int>(std::floor(v)); }
inline int __float2int_ru(float v) { return emulation_rounded<int>(std::ceil(v)); }
inline unsigned __float2uint_rn(float v) { return emulation_rounded<unsigned>(std::nearbyint(v)); }
inline unsigned __float2uint_rz(float v) { return emulation_rounded<unsigned>(std::trunc(v)); }
inline float __int2float_rn(int v) { return float(v); }
inline float __uint2float_rn(unsigned v) { return float(v); }
inline float __double2float_rn(double v) { return float(v); }

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(unsigned(v)); }
inline int __clzll(long long v) { return v == 0 ? 64 : __builtin_clzll(v); }
inline unsigned __brev(unsigned v) {
    unsigned found = 0;
    for (int i = 0; i < 32; ++i) found |= (v >> i & 1) << (31 - i);
    return found;
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    std::uint64_t both = std::uint64_t(high) << 32 | low;
    unsigned found = 0;
    for (int i = 0; i < 4; ++i) {
        unsigned chosen = selector >> 4 * i & 0xf;
        unsigned byte = both >> 8 * (chosen & 7) & 0xff;
        if (chosen & 8) byte = byte & 0x80 ? 0xff : 0;
        found |= byte << 8 * i;
    }
    return found;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return unsigned((std::uint64_t(high) << 32 | low) >> (by & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return unsigned((std::uint64_t(high) << 32 | low) << (by & 31) >> 32);
}
inline int __mul24(int a, int b) { return (a << 8 >> 8) * (b << 8 >> 8); }
inline unsigned __umulhi(unsigned a, unsigned b) { return std::uint64_t(a) * b >> 32; }
inline int __mulhi(int a, int b) { return std::int64_t(a) * b >> 32; }
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; ++i) c += (signed char)(a >> 8 * i) * (signed char)(b >> 8 * i);
    return c;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
    for (int i = 0; i < 4; ++i) c += (a >> 8 * i & 0xff) * (b >> 8 * i & 0xff);
    return c;
}

inline float __fadd_rn(float a, float b) { volatile float sum = a + b; return sum; }
inline float __fsub_rn(float a, float b) { volatile float sum = a - b; return sum; }
inline float __fmul_rn(float a, float b) { volatile float product = a * b; return product; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __frsqrt_rn(float v) { return 1.0f / std::sqrt(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float v) { return std::exp(v); }
inline float __exp10f(float v) { return std::pow(10.0f, v); }
inline float __logf(float v) { return std::log(v); }
inline float __log2f(float v) { return std::log2(v); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __sinf(float v) { return std::sin(v); }
inline float __cosf(float v) { return std::cos(v); }
inline float __tanhf(float v) { return std::tanh(v); }
inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
inline float fdividef(float a, float b) { return a / b; }
using std::isfinite;
using std::isinf;
using std::isnan;

// max and min of mixed types, as CUDA's headers have them.
#define EMULATION_EXTREME(NAME, FLOATING, OP)                                              \
    inline float NAME(float a, float b) { return FLOATING(a, b); }                         \
    inline double NAME(double a, double b) { return FLOATING(a, b); }                      \
    inline double NAME(float a, double b) { return FLOATING(double(a), b); }               \
    inline double NAME(double a, float b) { return FLOATING(a, double(b)); }               \
    template <class A, class B,                                                            \
              class = std::enable_if_t<std::is_integral<A>::value && std::is_integral<B>::value>> \
    inline std::common_type_t<A, B> NAME(A a, B b) {                                       \
        using T = std::common_type_t<A, B>;                                                \
        return T(a) OP T(b) ? T(a) : T(b);                                                 \
    }
EMULATION_EXTREME(max, std::fmax, >)
EMULATION_EXTREME(min, std::fmin, <)
#undef EMULATION_EXTREME

template <class T> inline T __ldg(const T* from) { return *from; }
template <class T> inline T __ldca(const T* from) { return *from; }
template <class T> inline T __ldcg(const T* from) { return *from; }
template <class T> inline T __ldcs(const T* from) { return *from; }
template <class T> inline T __ldlu(const T* from) { return *from; }
template <class T> inline T __ldcv(const T* from) { return *from; }
template <class T> inline void __stcg(T* to, T value) { *to = value; }
template <class T> inline void __stcs(T* to, T value) { *to = value; }
template <class T> inline void __stwb(T* to, T value) { *to = value; }
template <class T> inline void __stwt(T* to, T value) { *to = value; }

inline std::size_t __cvta_generic_to_shared(const void* p) {
    return static_cast<const char*>(p) - emulation::emulation_shared();
}
inline void* __cvta_shared_to_generic(std::size_t offset) {
    return emulation::emulation_shared() + offset;
}
inline long long clock64() {
    static long long ticks;
    return ++ticks;
}
inline int clock() { return int(clock64()); }
inline void __nanosleep(unsigned) { emulation::emulation_yield(); }
inline void __threadfence() { emulation::emulation_fence(); }
inline void __threadfence_block() { emulation::emulation_fence(); }
inline void __threadfence_system() { emulation::emulation_fence(); }
inline void __trap(int line = __builtin_LINE()) { emulation::emulation_fault("calls __trap", line); }
inline void __builtin_assume(bool) {}

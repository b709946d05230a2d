// What half and bfloat16 have in common: 16 bits that are computed with in float and rounded once.

#pragma once

// To nearest, ties to even; beyond the range infinity.
inline unsigned short emulation_half_bits(float value) {
    std::uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000;
    std::uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000) return 0x7fff;  // NaN, as the GPU writes it
    if (size >= 0x477ff000) return sign | 0x7c00;
    if (size >= 0x38800000) return sign | ((size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
    // Below the least normal number: adding a half rounds at the right place.
    float shifted = std::fabs(value) + 0.5f;
    return sign | (__float_as_uint(shifted) - 0x3f000000);
}
inline float emulation_half_value(unsigned short bits) {
    std::uint32_t sign = std::uint32_t(bits & 0x8000) << 16, size = bits & 0x7fff;
    if (size >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | (size & 0x3ff) << 13);
    if (size >= 0x400) return __uint_as_float(sign | ((size << 13) + 0x38000000));
    float value = float(size) * 0x1p-24f;
    return sign ? -value : value;
}
inline unsigned short emulation_bfloat16_bits(float value) {
    std::uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline float emulation_bfloat16_value(unsigned short bits) {
    return __uint_as_float(std::uint32_t(bits) << 16);
}
// A product and a sum rounded to float such that rounding once more is right: the last bit stays
// odd if anything was cut off.
inline float emulation_odd(double exact) {
    float near = float(exact);
    if (double(near) == exact || near != near || std::isinf(near)) return near;
    float cut = std::fabs(double(near)) > std::fabs(exact) ? std::nextafter(near, 0.0f) : near;
    return __uint_as_float(__float_as_uint(cut) | 1);
}

#define EMULATION_NARROW(T, RAW, TO_BITS, TO_VALUE)                                        \
    struct alignas(2) RAW { unsigned short x; };                                           \
    struct alignas(2) T {                                                                  \
        unsigned short __x;                                                                \
        T() = default;                                                                     \
        T(const RAW& raw) : __x(raw.x) {}                                                  \
        template <class N, class = std::enable_if_t<std::is_arithmetic<N>::value>>         \
        T(N value) : __x(TO_BITS(emulation_near(value))) {}                                \
        operator float() const { return TO_VALUE(__x); }                                   \
        operator RAW() const { return {__x}; }                                             \
        T& operator=(float value) { __x = TO_BITS(value); return *this; }                  \
        T& operator+=(T b) { return *this = T(float(*this) + float(b)); }                  \
        T& operator-=(T b) { return *this = T(float(*this) - float(b)); }                  \
        T& operator*=(T b) { return *this = T(float(*this) * float(b)); }                  \
        T& operator/=(T b) { return *this = T(float(*this) / float(b)); }                  \
    };                                                                                     \
    inline T operator+(T a, T b) { return T(float(a) + float(b)); }                        \
    inline T operator-(T a, T b) { return T(float(a) - float(b)); }                        \
    inline T operator*(T a, T b) { return T(float(a) * float(b)); }                        \
    inline T operator/(T a, T b) { return T(float(a) / float(b)); }                        \
    inline T operator-(T a) { a.__x ^= 0x8000; return a; }                                 \
    inline bool operator==(T a, T b) { return float(a) == float(b); }                      \
    inline bool operator!=(T a, T b) { return float(a) != float(b); }                      \
    inline bool operator<(T a, T b) { return float(a) < float(b); }                        \
    inline bool operator>(T a, T b) { return float(a) > float(b); }                        \
    inline bool operator<=(T a, T b) { return float(a) <= float(b); }                      \
    inline bool operator>=(T a, T b) { return float(a) >= float(b); }                      \
    inline T __hadd(T a, T b) { return a + b; }                                            \
    inline T __hsub(T a, T b) { return a - b; }                                            \
    inline T __hmul(T a, T b) { return a * b; }                                            \
    inline T __hdiv(T a, T b) { return a / b; }                                            \
    inline T __hadd_rn(T a, T b) { return a + b; }                                         \
    inline T __hmul_rn(T a, T b) { return a * b; }                                         \
    inline T __hneg(T a) { return -a; }                                                    \
    inline T __habs(T a) { a.__x &= 0x7fff; return a; }                                    \
    inline T __hfma(T a, T b, T c) {                                                       \
        return T(emulation_odd(double(float(a)) * double(float(b)) + double(float(c))));   \
    }                                                                                      \
    inline T __hmax(T a, T b) { return T(std::fmax(float(a), float(b))); }                 \
    inline T __hmin(T a, T b) { return T(std::fmin(float(a), float(b))); }                 \
    inline T __hmax_nan(T a, T b) { return a != a ? a : b != b ? b : __hmax(a, b); }       \
    inline T __hmin_nan(T a, T b) { return a != a ? a : b != b ? b : __hmin(a, b); }       \
    inline bool __heq(T a, T b) { return a == b; }                                         \
    inline bool __hne(T a, T b) { return a < b || a > b; }                                 \
    inline bool __hlt(T a, T b) { return a < b; }                                          \
    inline bool __hgt(T a, T b) { return a > b; }                                          \
    inline bool __hle(T a, T b) { return a <= b; }                                         \
    inline bool __hge(T a, T b) { return a >= b; }                                         \
    inline bool __hisnan(T a) { return a != a; }                                           \
    inline int __hisinf(T a) { return std::isinf(float(a)) ? (a < T(0) ? -1 : 1) : 0; }    \
    inline T hexp(T a) { return T(std::exp(float(a))); }                                   \
    inline T hlog(T a) { return T(std::log(float(a))); }                                   \
    inline T hsqrt(T a) { return T(std::sqrt(float(a))); }                                 \
    inline T hrsqrt(T a) { return T(1.0f / std::sqrt(float(a))); }                         \
    inline T hrcp(T a) { return T(1.0f / float(a)); }                                      \
    inline T htanh(T a) { return T(std::tanh(float(a))); }

inline float emulation_near(float value) { return value; }
inline float emulation_near(double value) { return emulation_odd(value); }
template <class N> inline float emulation_near(N value) { return emulation_odd(double(value)); }

#define EMULATION_NARROW_PAIR(T, PAIR, RAW)                                                \
    struct alignas(4) RAW { unsigned short x, y; };                                        \
    struct alignas(4) PAIR {                                                               \
        T x, y;                                                                            \
        PAIR() = default;                                                                  \
        PAIR(T x, T y) : x(x), y(y) {}                                                     \
    };                                                                                     \
    inline PAIR operator+(PAIR a, PAIR b) { return {a.x + b.x, a.y + b.y}; }               \
    inline PAIR operator-(PAIR a, PAIR b) { return {a.x - b.x, a.y - b.y}; }               \
    inline PAIR operator*(PAIR a, PAIR b) { return {a.x * b.x, a.y * b.y}; }               \
    inline PAIR& operator+=(PAIR& a, PAIR b) { return a = a + b; }                         \
    inline PAIR& operator*=(PAIR& a, PAIR b) { return a = a * b; }                         \
    inline PAIR __hadd2(PAIR a, PAIR b) { return a + b; }                                  \
    inline PAIR __hsub2(PAIR a, PAIR b) { return a - b; }                                  \
    inline PAIR __hmul2(PAIR a, PAIR b) { return a * b; }                                  \
    inline PAIR __hneg2(PAIR a) { return {-a.x, -a.y}; }                                   \
    inline PAIR __habs2(PAIR a) { return {__habs(a.x), __habs(a.y)}; }                     \
    inline PAIR __hmax2(PAIR a, PAIR b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }   \
    inline PAIR __hmin2(PAIR a, PAIR b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }   \
    inline PAIR __hfma2(PAIR a, PAIR b, PAIR c) {                                          \
        return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                             \
    }                                                                                      \
    inline PAIR __hgt2(PAIR a, PAIR b) { return {T(float(a.x > b.x)), T(float(a.y > b.y))}; } \
    inline float __low2float(PAIR a) { return a.x; }                                       \
    inline float __high2float(PAIR a) { return a.y; }                                      \
    inline PAIR atomicAdd(PAIR* address, PAIR value) {                                     \
        return emulation_update(address, [=](PAIR old) { return old + value; });           \
    }                                                                                      \
    inline T atomicAdd(T* address, T value) {                                              \
        return emulation_update(address, [=](T old) { return old + value; });              \
    }

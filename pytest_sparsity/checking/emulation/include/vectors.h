// Vector types, aligned as on a GPU: one load of their size.

#pragma once

#define EMULATION_VECTORS(NAME, T, TWO, FOUR)                                              \
    struct NAME##1 { T x; };                                                               \
    struct alignas(TWO) NAME##2 { T x, y; };                                               \
    struct alignas(FOUR) NAME##4 { T x, y, z, w; };                                        \
    inline NAME##1 make_##NAME##1(T x) { return {x}; }                                     \
    inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                             \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATION_VECTORS(char, signed char, 2, 4)
EMULATION_VECTORS(uchar, unsigned char, 2, 4)
EMULATION_VECTORS(short, short, 4, 8)
EMULATION_VECTORS(ushort, unsigned short, 4, 8)
EMULATION_VECTORS(int, int, 8, 16)
EMULATION_VECTORS(uint, unsigned, 8, 16)
EMULATION_VECTORS(long, long, 16, 16)
EMULATION_VECTORS(ulong, unsigned long, 16, 16)
EMULATION_VECTORS(longlong, long long, 16, 16)
EMULATION_VECTORS(ulonglong, unsigned long long, 16, 16)
EMULATION_VECTORS(float, float, 8, 16)
EMULATION_VECTORS(double, double, 16, 16)
#undef EMULATION_VECTORS

#define EMULATION_THREE(NAME, T)                                                           \
    struct NAME##3 { T x, y, z; };                                                         \
    inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }
EMULATION_THREE(char, signed char)
EMULATION_THREE(uchar, unsigned char)
EMULATION_THREE(short, short)
EMULATION_THREE(int, int)
EMULATION_THREE(float, float)
EMULATION_THREE(double, double)
#undef EMULATION_THREE
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(emulation::Triple t) : x(t.x), y(t.y), z(t.z) {}
};

// What an instruction of PTX loads or stores at once.
template <class T, int N> struct alignas(sizeof(T) * N) emulation_vector { T each[N]; };
